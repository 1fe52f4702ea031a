"""Draws that are as rare as the records, and rarer ones."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.rarity import Rarity, nearest
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Scaled(Fake):
    """N(0, scale^2 I)."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def sample(self, n):
        return self.scale * torch.randn(n, 2)


def test_the_mean_distance_by_hand():
    records = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    torch.testing.assert_close(nearest(torch.tensor([[2.0], [8.0]]), records, 2), torch.tensor([1.0, 3.0]))


def test_draws_of_the_law_are_as_rare_as_its_records_and_wider_ones_are_rarer(tmp_path):
    data = UnlabelledData(GaussianVectors(), test=0.5)
    data.setup()
    same, wide, narrow = (evaluate(Scaled(scale), data, Rarity(n=500), folder=tmp_path) for scale in (1.0, 2.0, 0.3))
    assert same["rarity"] == pytest.approx(1, abs=0.15)
    assert same["tail"] == pytest.approx(0.05, abs=0.03)
    assert same["outlyingness"] == pytest.approx(1.05, abs=0.1)
    for name in same:
        assert narrow[name] < same[name] < wide[name]
    assert narrow["tail"] == 0


def test_draws_that_are_not_finite_and_no_neighbour(tmp_path):
    data = UnlabelledData(GaussianVectors())
    data.setup()
    assert all(map(math.isnan, evaluate(Scaled(math.inf), data, Rarity(n=50), folder=tmp_path).values()))
    with pytest.raises(UserError, match="nearest"):
        Rarity(k=0)

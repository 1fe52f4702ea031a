"""Translations between two laws."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from callbacks.evaluation.translation import Translation
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Gaussians
from tests.callbacks.evaluation.fakes import Fake, evaluate

MEANS, LABELS = [[0.0, 0.0], [0.0, 20.0]], [0, 1]


class Shift(Fake):
    """Moves everything by (3, 4), and what lies high back to the height 0."""

    def __init__(self, source):
        super().__init__()
        self.law = source.load().truth
        self.weight = nn.Parameter(torch.zeros(()))

    def translate(self, x):
        return torch.where(x[:, 1:] > 10, torch.zeros_like(x), x + torch.tensor([3.0, 4.0]))


@pytest.mark.parametrize("labels", [LABELS, None])
def test_cost_and_classes_of_a_known_map(labels, tmp_path):
    """Three quarters move by 5, the rest by 20 and into the other class."""
    data = UnlabelledData(Gaussians(MEANS, 0.01, labels=LABELS, train=20, validation=5, test=20))
    data.setup()
    method = Shift(Gaussians(MEANS, 0.01, weights=[0.75, 0.25], labels=labels))
    figures = evaluate(method, data, Translation(n=4000), folder=tmp_path)
    assert figures["transport_cost"] == pytest.approx(0.75 * 25 + 0.25 * 400, rel=0.05)
    if labels is None:
        assert set(figures) == {"transport_cost"}
    else:
        assert figures["kept"] == pytest.approx(0.75, abs=0.03)

"""Pairs of which a known share belongs together."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.pairs import Pairs
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.densities import Ring
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.callbacks.evaluation.test_conditional import LAW, Labels


class Means(Fake):
    """Means in turn with their classes; every fifth has the class of the next, every tenth is nowhere."""

    def sample_pairs(self, n):
        y = torch.arange(n) % 3
        x = LAW.means[y].float()
        x[::10] = math.nan
        y[5::10] = (y[5::10] + 1) % 3
        return x, y


class Records(Fake):
    """Training records with their classes, of the first `classes` classes alone."""

    def __init__(self, data, classes):
        super().__init__()
        data.setup()
        self.x, self.y = data.records("train").x, data.columns["y"][data.rows["train"]]
        self.x, self.y = self.x[self.y < classes], self.y[self.y < classes]

    def sample_pairs(self, n):
        rows = torch.randint(len(self.x), (n,))
        return self.x[rows], self.y[rows]


def test_a_fifth_does_not_belong_together(tmp_path):
    got = evaluate(Means(), LabelledData(Labels(), scale="none"), Pairs(n=250), folder=tmp_path)
    assert got["pair_agreement"] == pytest.approx(0.8)
    assert got["pair_entropy"] == pytest.approx(1, abs=0.01)


def test_two_classes_of_ten_have_their_entropy(tmp_path):
    data = LabelledData(Digits())
    got = evaluate(Records(data, 2), data, Pairs(n=500), folder=tmp_path)
    assert got["pair_agreement"] > 0.97
    assert got["pair_entropy"] == pytest.approx(math.log(2) / math.log(10), abs=0.01)


def test_where_nobody_can_tell_it_does_not_attach():
    assert Pairs().misfit(Fake(), Ring().load().spec) == "the target is no class"

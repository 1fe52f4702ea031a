"""Promises over calibration sets, by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.judging import Judging
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Pairs(Source):
    """x is the confidence in the second answer; above 0.7, 9 of 10 are right, below, 6 of 10."""

    def load(self):
        x = torch.tensor([0.8, 0.6]).repeat_interleave(100)[:, None]
        y = torch.cat([torch.arange(100) % 10 < 9, torch.arange(100) % 10 < 6]).long()
        rows = {"train": torch.arange(1), "validation": torch.arange(0), "test": torch.arange(200)}
        spec = DataSpec("pairs", "vector", (1,), target="class", classes=("first", "second"))
        return Records(spec, {"x": x, "y": y}, splits=rows)


class Fixed(Fake):
    """One threshold, whatever the calibration set."""

    alpha = 0.2

    def __init__(self, threshold):
        super().__init__()
        self.threshold = threshold

    def thresholds(self, x, y):
        assert x.shape[1:] == (50, 1)
        return torch.full((len(x), 1), self.threshold)

    def confidence(self, x):
        return x, torch.ones_like(x).long()

    def judge(self, x, thresholds):
        sure = x >= thresholds[:, None]
        return torch.where(sure, 1, -1).squeeze(-1), sure.double().squeeze(-1)


@pytest.mark.parametrize(("threshold", "kept", "agreement", "coverage"), [(0.7, 15, 0.9, 0.5), (0.5, 0, 0.75, 1.0)])
def test_by_hand(tmp_path, threshold, kept, agreement, coverage):
    data = LabelledData(Pairs(), scale="none", eval_batch_size=70)
    got = evaluate(Fixed(threshold), data, Judging(trials=15, calibration=50), folder=tmp_path)
    assert (got["kept"], got["trials"]) == (kept, 15)
    assert (got["agreement"], got["coverage"], got["cost"]) == pytest.approx((agreement, coverage, coverage))
    assert got["confidence_ece"] == pytest.approx((0.1 + 0) / 2)


def test_silence_breaks_no_promise(tmp_path):
    data = LabelledData(Pairs(), scale="none")
    got = evaluate(Fixed(2.0), data, Judging(trials=4, calibration=50), folder=tmp_path)
    assert (got["kept"], got["coverage"]) == (4, 0)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"judging\.trials=0"):
        Judging(trials=0)

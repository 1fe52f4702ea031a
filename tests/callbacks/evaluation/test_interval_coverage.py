"""Coverage and width of intervals, by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.interval_coverage import IntervalCoverage
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.callbacks.evaluation.test_coverage import Told


class Told2(Source):
    """x is the interval, y the target."""

    def load(self):
        x = torch.tensor([[0, 1], [0, 1], [0, 2], [0, 2], [0, 5], [0, 5.0]])
        y = torch.tensor([0.5, 1.5, 1, 3, -1, 5])
        rows = {"train": torch.arange(1), "validation": torch.arange(0), "test": torch.arange(6)}
        return Records(DataSpec("told", "vector", (2,), target="real"), {"x": x, "y": y}, splits=rows)


class Obedient(Fake):
    """Gives the intervals that x says, or the same for all."""

    alpha = 0.5

    def __init__(self, same=False):
        super().__init__()
        self.same = same

    def predict_interval(self, x):
        return torch.tensor([0.0, 2.0]).expand(len(x), 2) if self.same else x


def figures(folder, same=False, **arguments):
    data = LabelledData(Told2(), scale="none", eval_batch_size=4)
    return evaluate(Obedient(same), data, IntervalCoverage(**arguments), folder=folder)


def test_by_hand(tmp_path):
    got = figures(tmp_path)
    assert (got["covered"], got["records"], got["coverage"]) == (3, 6, 0.5)
    assert got["width"] == pytest.approx(16 / 6)
    assert got["interval_score"] == pytest.approx((16 + 4 * (0.5 + 1 + 1)) / 6)
    assert got["width_coverage_worst"] == 0.5
    assert figures(tmp_path, strata=6)["width_coverage_worst"] == 0


def test_equal_widths_are_one_stratum(tmp_path):
    got = figures(tmp_path, same=True, strata=6)
    assert got["width_coverage_worst"] == got["coverage"] == 0.5


def test_it_is_for_real_targets():
    assert "no real number" in IntervalCoverage().misfit(Obedient(), Told().load().spec)
    with pytest.raises(UserError, match=r"interval_coverage\.strata=0"):
        IntervalCoverage(strata=0)

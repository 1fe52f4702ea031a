"""Coverage and size of sets, by hand."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import binomtest

from callbacks.evaluation.coverage import Coverage
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Told(Source):
    """x says which of three classes are in the set, y is the class."""

    def load(self):
        sets = [[1, 0, 0]] * 6 + [[1, 1, 0]] * 4 + [[0, 0, 0]] * 1 + [[1, 1, 1]] * 2
        classes = [0, 0, 0, 0, 1, 1, 0, 1, 1, 2, 0, 2, 2]
        rows = {"train": torch.arange(1), "validation": torch.arange(0), "test": torch.arange(13)}
        spec = DataSpec("told", "vector", (3,), target="class", classes=("a", "b", "c"))
        return Records(spec, {"x": torch.tensor(sets).float(), "y": torch.tensor(classes)}, splits=rows)


class Obedient(Fake):
    """Gives the sets that x says."""

    alpha = 0.25

    def predict_set(self, x):
        return x > 0.5


def figures(folder, **arguments):
    data = LabelledData(Told(), scale="none", eval_batch_size=4)
    return evaluate(Obedient(), data, Coverage(**arguments), folder=folder)


def test_by_hand(tmp_path):
    got = figures(tmp_path, least=1)
    covered = 4 + 3 + 0 + 2
    want = binomtest(covered, 13).proportion_ci(0.95, "exact")
    assert (got["covered"], got["records"]) == (covered, 13)
    assert (got["coverage_low"], got["coverage_high"]) == pytest.approx((want.low, want.high))
    assert got["set_size"] == pytest.approx((6 * 1 + 4 * 2 + 2 * 3) / 13)
    assert (got["singletons"], got["empty"]) == pytest.approx((6 / 13, 1 / 13))
    # Classes: 5 of 6, 2 of 4, 2 of 3. Sizes: 0 of 1, 4 of 6, 3 of 4, 2 of 2.
    assert got["class_coverage_worst"] == pytest.approx(1 / 2)
    assert got["class_coverage_gap"] == pytest.approx((5 / 6 - 3 / 4 + 1 / 4 + 3 / 4 - 2 / 3) / 3)
    assert got["size_coverage_worst"] == 0
    assert figures(tmp_path, least=4)["size_coverage_worst"] == pytest.approx(4 / 6)


def test_small_strata_are_left_out(tmp_path):
    got = figures(tmp_path)
    assert all(math.isnan(got[name]) for name in ("class_coverage_worst", "class_coverage_gap", "size_coverage_worst"))


def test_it_is_for_classes():
    assert "no class" in Coverage().misfit(Obedient(), Line().load().spec)
    with pytest.raises(UserError, match=r"coverage\.least=0"):
        Coverage(least=0)

"""False discoveries and power of a selection, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.selection import Selection
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.selection_tasks import SelectionTasks
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Signs(Source):
    """x is whether to select a record, y whether that is right: 2 right and 1 wrong selected, 1 right left."""

    def load(self):
        x = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0])[:, None]
        y = torch.tensor([1.0, 1.0, -1.0, 1.0, -1.0])
        rows = {"train": torch.arange(1), "validation": torch.arange(0), "test": torch.arange(5)}
        return Records(DataSpec("signs", "vector", (1,), target="real"), {"x": x, "y": y}, splits=rows)


class Obedient(Fake):
    """Selects what x says."""

    def __init__(self, never=False):
        super().__init__()
        self.never = never

    def select(self, task):
        assert task.pool_y.isnan().all(), "the answers were shown"
        return (task.pool_x[..., 0] > 0) & (not self.never)


def figures(folder, pool, problems, **arguments):
    data = SelectionTasks(Signs(), calibration=5 - pool, pool=pool, problems=problems, scale="none")
    return evaluate(Obedient(**arguments), data, Selection(), folder=folder)


def test_by_hand(tmp_path):
    # A pool of four leaves one record out; over many problems each as often: a selected right one (twice), the
    # selected wrong one, the right one left, the wrong one left.
    got = figures(tmp_path, 4, 4000)
    assert got["fdr"] == pytest.approx((2 * 1 / 2 + 0 + 2 * 1 / 3) / 5, abs=0.015)
    assert got["power"] == pytest.approx((2 * 1 / 2 + 2 / 3 + 1 + 2 / 3) / 5, abs=0.015)
    assert got["selected"] == pytest.approx((2 * 2 + 2 + 2 * 3) / 5, abs=0.04)
    spread = torch.tensor([0.5, 0.5, 0, 1 / 3, 1 / 3]).std(correction=0)
    assert got["fdr_se"] == pytest.approx(float(spread) / math.sqrt(4000), rel=0.05)


def test_selecting_none_is_no_false_discovery(tmp_path):
    got = figures(tmp_path, 3, 10, never=True)
    assert (got["fdr"], got["power"], got["selected"]) == (0, 0, 0)
    assert math.isnan(figures(tmp_path, 3, 1)["fdr_se"])


def test_needs_problems_and_a_selector():
    data = LabelledData(Line())
    assert "have no calibration_x" in Selection().why_not(Obedient(), data.batch_type, data.spec)
    assert Selection().why_not(Fake(), data.batch_type, data.spec) == "Fake is no Selector"

"""Problems of selection: what they hold, and that they repeat no record needlessly."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled, SelectionTask
from datamodules.presentations.selection_tasks import SelectionTasks
from datamodules.source import Records, Source
from datamodules.spec import DataSpec


class Numbered(Source):
    """Records whose x and y are their row number; 10 to train on and 100 to test on."""

    def load(self):
        row = torch.arange(120.0)
        splits = {"train": torch.arange(10), "validation": torch.arange(10, 20), "test": torch.arange(20, 120)}
        return Records(DataSpec("rows", "vector", (1,), target="real"), {"x": row[:, None], "y": row}, splits=splits)


def tasks(**arguments):
    return SelectionTasks(Numbered(), **{"calibration": 6, "pool": 4, "scale": "none", "threshold": 50.0} | arguments)


def test_problems_hold_each_record_once_until_all_are_used():
    data = tasks(problems=10, eval_batch_size=35)
    batches = list(data.test_dataloader())
    assert [len(batch.pool_x) for batch in batches] == [3, 3, 3, 1]  # of ten records each
    assert all(isinstance(batch, SelectionTask) for batch in batches)
    x = torch.cat([torch.cat([batch.calibration_x, batch.pool_x], 1) for batch in batches])
    y = torch.cat([torch.cat([batch.calibration_y, batch.pool_y], 1) for batch in batches])
    assert x.shape == (10, 10, 1)
    assert torch.equal(x[..., 0], y)
    assert sorted(y.flatten().tolist()) == list(range(20, 120))
    assert not torch.equal(y.flatten(), torch.arange(20.0, 120.0))
    assert batches[0].threshold.tolist() == [50.0] * 3


def test_more_problems_than_records_begin_again():
    y = torch.cat([torch.cat([batch.calibration_y, batch.pool_y], 1) for batch in tasks(problems=25).test_dataloader()])
    assert y.shape == (25, 10)
    assert all(len(set(problem)) == 10 for problem in y.tolist())
    assert not torch.equal(y[:10], y[10:20])
    again = torch.cat([batch.pool_y for batch in tasks(problems=25).test_dataloader()])
    assert torch.equal(y[:, 6:], again)
    other = torch.cat([batch.pool_y for batch in tasks(problems=25, seed=1).test_dataloader()])
    assert not torch.equal(y[:, 6:], other)


def test_trains_on_labelled_records():
    batch = next(iter(tasks(batch_size=10).train_dataloader()))
    assert isinstance(batch, Labelled)
    assert sorted(batch.y.tolist()) == list(range(10))


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"datamodule\.pool=0"):
        tasks(pool=0)
    with pytest.raises(UserError, match="has 100 test records: a problem takes 97"):
        list(tasks(calibration=97).test_dataloader())

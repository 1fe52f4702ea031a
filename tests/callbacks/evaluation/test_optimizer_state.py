"""Bytes of states that are known: Adam keeps two float32 numbers per weight, and momentum one."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from callbacks.evaluation.optimizer_state import OptimizerState, size, state_bytes
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


def stepped(kind, **arguments):
    weight = torch.nn.Parameter(torch.ones(10, 4))
    weight.grad = torch.ones(10, 4)
    optimizer = kind([weight], **arguments)
    optimizer.step()
    return optimizer


def test_adam_and_momentum(tmp_path):
    adam, momentum = stepped(torch.optim.Adam), stepped(torch.optim.SGD, lr=0.1, momentum=0.9)
    for optimizer, expected in ((adam, 8 * 40 + 4), (momentum, 4 * 40)):  # Adam's count of steps is a tensor, too
        assert state_bytes(SimpleNamespace(optimizers=[optimizer], default_root_dir=tmp_path)) == expected


def test_a_training_that_is_over_is_read_from_its_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    torch.save({"optimizer_states": [stepped(torch.optim.Adam).state_dict()]}, tmp_path / "checkpoints/last.ckpt")
    assert state_bytes(SimpleNamespace(optimizers=[], default_root_dir=tmp_path)) == 324


def test_no_training_no_figure(tmp_path):
    assert math.isnan(state_bytes(SimpleNamespace(optimizers=[], default_root_dir=tmp_path)))


def test_nested_states():
    assert sum(size({"a": [torch.zeros(3), {"b": torch.zeros(2, dtype=torch.float64)}], "step": 3, "c": "x"})) == 28


@pytest.mark.parametrize("measure", [True, False])
def test_only_where_it_is_asked_for(tmp_path, measure):
    data = UnlabelledData(GaussianVectors())
    figures = evaluate(Fake(), data, OptimizerState(measure=measure), folder=tmp_path)
    assert set(figures) == ({"state_bytes_per_weight"} if measure else set())

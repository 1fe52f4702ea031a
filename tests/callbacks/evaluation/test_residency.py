"""What is on the device: all weights, or what an optimizer has counted."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from callbacks.evaluation.residency import Residency
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate

METHOD = torch.nn.Linear(9, 10, bias=False)
"""360 bytes."""


def share(folder, optimizers):
    trainer = SimpleNamespace(optimizers=optimizers, default_root_dir=folder)
    return Residency(measure=True).compute(METHOD, SimpleNamespace(trainer=trainer))["resident_share"]


def counted(peak: int):
    optimizer = torch.optim.SGD(METHOD.parameters(), lr=0.1)
    optimizer.param_groups[0]["peak"] = peak
    return optimizer


def test_all_weights_or_the_largest_sum(tmp_path):
    assert share(tmp_path, [torch.optim.SGD(METHOD.parameters(), lr=0.1)]) == 1
    assert share(tmp_path, [counted(90)]) == 0.25


def test_a_training_that_is_over_is_read_from_its_checkpoint(tmp_path):
    assert math.isnan(share(tmp_path, []))
    (tmp_path / "checkpoints").mkdir()
    torch.save({"optimizer_states": [counted(180).state_dict()]}, tmp_path / "checkpoints/last.ckpt")
    assert share(tmp_path, []) == 0.5


@pytest.mark.parametrize("measure", [True, False])
def test_only_where_it_is_asked_for(tmp_path, measure):
    figures = evaluate(Fake(), UnlabelledData(GaussianVectors()), Residency(measure=measure), folder=tmp_path)
    assert set(figures) == ({"resident_share"} if measure else set())

"""Differences of weights that were put there."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.weight_difference import WeightDifference
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import GaussianVectors, evaluate
from tests.modules.test_contract import planned, trained


@pytest.fixture
def run(tmp_path):
    few = ["data=wine", "net=mlp", "net.width=4", "net.depth=1"]
    return planned("supervised/classifier", tmp_path, *few)


def figures(parts, than):
    return WeightDifference(than=str(than)).compute(parts.method, parts.data)


def test_none_from_its_own_checkpoint_and_those_that_were_changed(run):
    parts = trained(run)
    last = run.checkpoints / "last.ckpt"
    assert figures(parts, last) == {"weight_difference": 0, "weights_differing": 0}
    first, second = list(parts.method.parameters())[:2]
    with torch.no_grad():
        first[0, :3] += 0.5
        second[1] -= 2
    found = figures(parts, last)
    assert found["weights_differing"] == 4
    assert found["weight_difference"] == pytest.approx(2, abs=1e-6)


def test_a_sign_of_zero_is_a_bit(run):
    parts = trained(run)
    weight = next(parts.method.parameters())
    saved = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    with torch.no_grad():
        weight[0, 0] = 0.0
    name = next(iter(dict(parts.method.named_parameters())))
    saved["state_dict"][name] = weight.detach().clone()
    saved["state_dict"][name][0, 0] = -0.0
    torch.save(saved, run.checkpoints / "other.ckpt")
    assert figures(parts, run.checkpoints / "other.ckpt") == {"weight_difference": 0, "weights_differing": 1}


def test_other_weights_are_refused(run, tmp_path):
    parts = trained(run)
    saved = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    saved["state_dict"].popitem()
    torch.save(saved, run.checkpoints / "other.ckpt")
    with pytest.raises(UserError, match="does not fit"):
        figures(parts, run.checkpoints / "other.ckpt")


def test_only_where_it_is_asked_for(tmp_path):
    from tests.callbacks.evaluation.fakes import Fake

    assert evaluate(Fake(), UnlabelledData(GaussianVectors()), WeightDifference(), folder=tmp_path) == {}

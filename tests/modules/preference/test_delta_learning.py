"""Students of two teachers: the direction in which they start, the objective by hand, where they begin."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.presentations.teacher_pairs import TeacherPairData
from datamodules.sources.teachers import Teachers
from modules.method import Method
from modules.networks.linear import Linear
from modules.preference.delta_learning import DeltaLearning
from tests.modules.test_contract import planned, trained

DPO = {"_target_": "modules.preference.objectives.referenced.DPO", "beta": 0.7}


def test_descent_begins_along_the_difference_of_the_teachers():
    """E sign(<u, x>) x = sqrt(2 / pi) u, and where both odds are even DPO's slope is beta / 2 of each logit's."""
    source = Teachers(dimensions=10, strong=0.5, weak=-0.2, train=200_000, validation=1, test=1)
    data = TeacherPairData(source)
    method = DeltaLearning(data.spec, DPO, net=Linear((10,), (2,), bias=False))
    batch = data.records("train")
    method.loss(batch).backward()
    found = source.directions()
    # Of the logit of the class above: (chosen - rejected) x, halves of signs each, times beta / 2.
    expected = 0.7 / 2 * (2 / torch.pi) ** 0.5 / 2 * (found["strong"] - found["weak"])
    for row, sign in ((1, -1), (0, 1)):
        gradient = method.net.last.weight.grad[row].double()
        torch.testing.assert_close(gradient, sign * expected, atol=4 * 0.35 / 200_000**0.5, rtol=0)


def test_it_is_dpo_of_classes_with_the_start_as_its_reference(tmp_path):
    small = ("data.dimensions=5", "data.train=400", "data.validation=100", "data.test=100")
    more = ("net=linear", "optimizer.lr=0.3", "data=teachers", "datamodule.scale=none", "data.labels=student")
    begun = trained(planned("supervised/classifier", tmp_path / "a", *more, *small))
    path = Path(begun.trainer.default_root_dir) / "checkpoints/last.ckpt"
    parts = trained(planned(
        "preference/delta_learning", tmp_path, *small, f"model.model={path}", "optimizer.lr=1",
        "model.objective.beta=0.7",
    ))  # fmt: skip
    path.unlink()
    method = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    batch = parts.data.records("train")
    with torch.no_grad():
        logits, before = method.net(batch.x), begun.method.net(batch.x)
        row = torch.arange(len(batch.x))
        gap = logits[row, batch.chosen] - logits[row, batch.rejected]
        gap = gap - (before[row, batch.chosen] - before[row, batch.rejected])
        assert float(gap.abs().max()) > 0.01
        assert float(method.loss(batch)) == pytest.approx(float(F.softplus(-0.7 * gap).mean()), rel=1e-5)
    other = trained(planned("supervised/classifier", tmp_path / "b", "data=wine", "net=linear"))
    path = f"{other.trainer.default_root_dir}/checkpoints/last.ckpt"
    with pytest.raises(UserError, match="another network"):
        trained(planned("preference/delta_learning", tmp_path / "c", *small, f"model.model={path}"))

"""Distances of a policy from that of a checkpoint, written out."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from callbacks.evaluation.other_policy import OtherPolicy
from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from modules.method import Method
from tests.callbacks.evaluation.fakes import Fake, evaluate
from tests.modules.test_contract import planned, trained


class Given(Fake):
    """A random law."""

    def __init__(self):
        super().__init__()
        self.law = torch.randn(8, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64).log_softmax(1)

    def all_log_probs(self, prompts, answers):
        return self.law


def test_it_is_total_variation_and_divergence(tmp_path):
    parts = trained(planned("preference/fine_tuning", tmp_path / "other", "optimizer.lr=0.5"))
    path = str(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    data = PreferenceData(Bandit())
    got = evaluate(Given(), data, OtherPolicy(model=path), folder=tmp_path)
    with torch.no_grad():
        other = Method.load_from_checkpoint(path).all_log_probs(data.world.prompts, data.world.answers).double()
    pi, other = Given().law.exp(), other.exp()
    larger = sum(float((p - q).clamp(min=0).sum()) for p, q in zip(pi, other, strict=True)) / 8
    assert got["distance"] == pytest.approx(larger, abs=1e-6)  # what pi has more of the answers it has more of
    divergence = torch.nn.functional.kl_div(other.log(), pi, reduction="batchmean")
    assert got["divergence"] == pytest.approx(float(divergence), abs=1e-6)


def test_it_asks_for_a_policy(tmp_path):
    data = PreferenceData(Bandit())
    assert OtherPolicy().why_not_on(Given(), data) == "nobody said from which (model=null)"
    parts = trained(planned("supervised/classifier", tmp_path / "other", "data=wine", "net=mlp"))
    path = str(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    with pytest.raises(UserError, match="no law of answers"):
        evaluate(Given(), data, OtherPolicy(model=path), folder=tmp_path)

"""Reward models: the loss against trl's, the score against a loop, where it begins and what it learns."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Preferences
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.transformer import Transformer
from modules.preference.reward_model import RewardModel
from tests.modules.test_contract import planned, trained

SPEC = DataSpec("texts", "text", (6,), target="preference", vocabulary=7)
SMALL = ("net=transformer", "net.width=8", "net.depth=1", "net.heads=1")


def model(**settings) -> RewardModel:
    torch.manual_seed(0)
    net = Transformer((6,), (7,), width=8, depth=1, heads=2)
    for weight in net.parameters():
        torch.nn.init.normal_(weight, std=0.5)
    return RewardModel(SPEC, net=net, **settings).eval()


def batch() -> Preferences:
    ids = torch.randint(7, (5, 2, 6), generator=torch.Generator().manual_seed(1))
    length = torch.tensor([[1, 3], [4, 4], [2, 1], [3, 2], [3, 1]])
    place = torch.arange(6)
    return Preferences(ids, (place >= 2) & (place < 2 + length[..., None]), torch.arange(5))


def test_the_score_is_read_at_the_last_token_of_the_answer_and_padding_does_not_matter():
    method, given = model(), batch()
    with torch.no_grad():
        found = method.answer_scores(given.pairs, given.answers)
        for row in range(5):
            for side in range(2):
                end = int(given.answers[row, side].nonzero().max()) + 1
                features = method.net.embed(given.pairs[row, side, None, :end])[0, -1]
                expected = float(features @ method.head.weight[0])
                assert float(found[row, side]) == pytest.approx(expected, abs=1e-5)
    assert found.shape == (5, 2)
    assert model().bfloat16().answer_scores(given.pairs, given.answers).dtype == torch.float32


@pytest.mark.parametrize(("center", "margin"), [(0.0, 0.0), (0.3, 0.0), (0.01, 1.5)])
def test_the_loss_is_that_of_trl(center, margin):
    from trl.trainer.reward_trainer import RewardTrainer

    method, given = model(center=center, margin=margin), batch()
    with torch.no_grad():
        scores = method.answer_scores(given.pairs, given.answers)
        ours = float(sum(method.loss(given).values()))
    trainer = MagicMock()
    trainer.args.center_rewards_coefficient = center or None
    trainer.accelerator = SimpleNamespace(gather=lambda x: x, gather_for_metrics=lambda x: x)
    trainer._total_train_tokens, trainer._tp_size = 0, 1
    inputs = {"attention_mask": torch.ones(10, 6), **({"margin": torch.full((5,), margin)} if margin else {})}
    network = lambda **given: SimpleNamespace(logits=scores.T.reshape(10, 1))  # noqa: E731
    theirs = RewardTrainer.compute_loss(trainer, network, inputs)
    assert ours == pytest.approx(float(theirs), rel=1e-6)


def test_it_finds_the_true_rewards_of_a_bandit_up_to_a_constant_for_each_prompt(tmp_path):
    """With many pairs the differences of scores are those of the rewards: sampling errors of some 0.08 are left."""
    parts = trained(planned(
        "preference/reward_model", tmp_path, "data.prompts=2", "data.answers=4", "data.sharpness=0.3",
        "data.train=8000", "datamodule.batch_size=1000", "trainer.max_epochs=16", "trainer.limit_train_batches=1.0",
        "optimizer.lr=0.04",
    ))  # fmt: skip
    world = parts.data.world
    ids = torch.cat([world.prompts[:, None].expand(2, 4, 1), world.answers[None].expand(2, 4, 1)], 2)
    with torch.no_grad():
        scores = parts.method.answer_scores(ids, torch.tensor([False, True]).expand(2, 4, 2)).double()
    # What is left of an untrained model, -r, is up to 1.9.
    error = (scores - scores.mean(1, keepdim=True)) - (world.reward - world.reward.mean(1, keepdim=True))
    assert float(error.abs().max()) < 0.3


def test_it_begins_with_a_policy_s_network_and_opens_without_that_checkpoint(tmp_path):
    tuned = trained(planned("preference/fine_tuning", tmp_path / "tuned", *SMALL, "optimizer.lr=0.1"))
    path = Path(tuned.trainer.default_root_dir) / "checkpoints/last.ckpt"
    copy = tmp_path / "copy.ckpt"
    copy.write_bytes(path.read_bytes())
    parts = trained(planned("preference/reward_model", tmp_path, *SMALL, f"model.model={copy}", "optimizer.lr=0"))
    for name, weight in tuned.method.net.state_dict().items():
        assert torch.equal(weight, parts.method.net.state_dict()[name]), name
    copy.unlink()
    again = Method.load_from_checkpoint(Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt")
    assert torch.equal(again.net.token.weight, tuned.method.net.token.weight)
    with pytest.raises(UserError, match="has another network"):
        trained(planned("preference/reward_model", tmp_path / "b", *SMALL, "net.width=16", f"model.model={path}"))
    rewards = Path(parts.trainer.default_root_dir) / "checkpoints/last.ckpt"
    with pytest.raises(UserError, match="is a RewardModel, no Policy"):
        trained(planned("preference/reward_model", tmp_path / "c", *SMALL, f"model.model={rewards}"))


def test_what_it_cannot_do_is_said(tmp_path):
    with pytest.raises(UserError, match="Bigram has no features of tokens"):
        trained(planned("preference/reward_model", tmp_path, "net=bigram"))
    spec = PreferenceData(Bandit()).spec
    for settings in ({"center": -1.0}, {"margin": math.nan}):
        with pytest.raises(UserError, match="at least 0"):
            RewardModel(spec, **settings)

"""A reward model with a policy's loss beside: both parts by hand, and what is left of it afterwards."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Preferences
from modules.preference.hybrid_reward import HybridReward
from modules.preference.policy import answer_log_probs
from modules.preference.reward_model import RewardModel
from tests.modules.preference.test_policy_gradient import SMALL, SPEC

DPO = {"_target_": "modules.preference.objectives.referenced.DPO", "beta": 0.3}


@pytest.fixture
def batch():
    torch.manual_seed(2)
    answers = torch.tensor([[[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0]], [[0, 0, 1, 1, 1, 1], [0, 0, 1, 0, 0, 0]]]).bool()
    return Preferences(torch.randint(5, (2, 2, 6)), answers, torch.arange(2))


def test_its_loss_is_bradley_and_terry_s_and_dpo_s(batch):
    torch.manual_seed(0)
    method = HybridReward(SPEC, DPO, alpha=0.7, net=SMALL).double()
    with torch.no_grad():
        for weight in method.net.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    found = method.loss(batch)
    rewards = torch.stack([
        torch.stack([
            method.head(method.net.embed(batch.pairs[row, side][None])[0, batch.answers[row, side].nonzero().max()])[0]
            for side in (0, 1)
        ])
        for row in (0, 1)
    ])  # fmt: skip
    torch.testing.assert_close(found["preference"], -F.logsigmoid(rewards[:, 0] - rewards[:, 1]).mean())
    ratio = answer_log_probs(method.net, batch.pairs, batch.answers) - answer_log_probs(
        method.reference, batch.pairs, batch.answers
    )
    torch.testing.assert_close(found["policy"], -0.7 * F.logsigmoid(0.3 * (ratio[:, 0] - ratio[:, 1])).mean())
    assert not any(weight.requires_grad for weight in method.reference.parameters())


def test_its_scores_are_those_of_a_reward_model_with_its_weights(batch):
    torch.manual_seed(0)
    method, plain = HybridReward(SPEC, DPO, net=SMALL), RewardModel(SPEC, net=SMALL)
    plain.load_state_dict({name: w for name, w in method.state_dict().items() if not name.startswith("reference.")})
    scores = method.answer_scores(batch.pairs, batch.answers)
    torch.testing.assert_close(scores, plain.answer_scores(batch.pairs, batch.answers))


def test_wrong_parts_are_refused():
    with pytest.raises(UserError, match=r"model\.alpha=0"):
        HybridReward(SPEC, DPO, alpha=0, net=SMALL)
    with pytest.raises(UserError, match="net=transformer"):
        HybridReward(SPEC, DPO, net={"_target_": "modules.networks.bigram.Bigram"})

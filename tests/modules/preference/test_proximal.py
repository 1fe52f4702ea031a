"""PPO of answers: advantages by the recursion, and the critic."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.policy import token_log_probs
from modules.preference.proximal import ProximalPolicy, advantages
from tests.modules.preference.test_policy_gradient import SMALL, SPEC, rollouts


def test_advantages_are_those_of_the_recursion():
    torch.manual_seed(0)
    rewards, values = torch.randn(2, 3, 7, dtype=torch.float64)
    for lam in (0.0, 0.8, 1.0):
        expected = torch.zeros_like(rewards)
        after = torch.zeros(3, dtype=torch.float64)
        for t in reversed(range(7)):
            following = values[:, t + 1] if t < 6 else 0.0
            after = rewards[:, t] + following - values[:, t] + lam * after
            expected[:, t] = after
        torch.testing.assert_close(advantages(rewards, values, lam), expected)


def test_the_loss_is_that_of_the_tokens_of_the_answers():
    torch.manual_seed(0)
    policy = ProximalPolicy(SPEC, net=SMALL, lam=0.9, value=0.5, beta=0.2).double()
    torch.nn.init.normal_(policy.head.weight)
    batch = rollouts(policy)
    found = policy.loss(batch)
    with torch.no_grad():
        log_pi = token_log_probs(policy.net, batch.ids, batch.answer)
        log_reference = token_log_probs(policy.reference, batch.ids, batch.answer)
        hidden = policy.critic.embed(batch.ids)
        gains, values, goals, advantage = [], [], [], []
        for row in range(6):
            steps = batch.answer[row].nonzero()[:, 0].tolist()
            value = [float(policy.head(hidden[row, t - 1])) for t in steps]
            reward = [-0.2 * float(batch.log_probs[row, t] - log_reference[row, t - 1]) for t in steps]
            reward[-1] += float(batch.reward[row])
            after, own = 0.0, []
            for place in reversed(range(len(steps))):
                following = value[place + 1] if place + 1 < len(steps) else 0.0
                after = reward[place] + following - value[place] + 0.9 * after
                own.insert(0, after)
            advantage += own
            values += value
            goals += [a + v for a, v in zip(own, value, strict=True)]
            gains += [(float(log_pi[row, t - 1] - batch.log_probs[row, t])) for t in steps]
        a = torch.tensor(advantage, dtype=torch.float64)
        a = (a - a.mean()) / (a.std(correction=0) + 1e-8)
        ratio = torch.tensor(gains, dtype=torch.float64).exp()
        gain = torch.minimum(ratio * a, ratio.clamp(0.8, 1.2) * a).mean()
        # In a batch the critic's goals are those that it has made itself: the loss is the mean square of advantages.
        worth = (torch.tensor(values) - torch.tensor(goals)).double().square().mean() / 2
    torch.testing.assert_close(found["gain"], -gain)
    torch.testing.assert_close(found["value"], 0.5 * worth, rtol=1e-5, atol=0)
    found["value"].backward()
    assert float(policy.head.weight.grad.norm()) > 0


def test_a_table_has_no_features_for_a_critic():
    with pytest.raises(UserError, match="net=transformer"):
        ProximalPolicy(SPEC, net={"_target_": "modules.networks.bigram.Bigram"})
    with pytest.raises(UserError, match=r"model\.lam"):
        ProximalPolicy(SPEC, net=SMALL, lam=1.5)

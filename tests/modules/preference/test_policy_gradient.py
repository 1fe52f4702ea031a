"""Gradients from a policy's own answers: their size, their direction, and where they lead."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Rollouts
from modules.preference.advantages import Alone, LeaveOneOut, Standardised
from modules.preference.policy import token_log_probs
from modules.preference.policy_gradient import PolicyGradient
from tests.modules.test_contract import planned, trained

SPEC = {"name": "toy", "kind": "text", "shape": [6], "target": "preference", "vocabulary": 5}
SMALL = {"_target_": "modules.networks.transformer.Transformer", "width": 8, "depth": 1, "heads": 2}
RLOO = {"_target_": "modules.preference.advantages.LeaveOneOut"}
GRPO = {"_target_": "modules.preference.advantages.Standardised"}


def method(**parts):
    torch.manual_seed(0)
    made = PolicyGradient(SPEC, net=SMALL, **parts)
    for weight in made.net.parameters():
        torch.nn.init.normal_(weight, std=0.3)
    return made.double()


def rollouts(policy) -> Rollouts:
    """Two prompts with three answers each, written a while ago."""
    torch.manual_seed(1)
    ids = torch.randint(5, (6, 6))
    answer = torch.tensor([[0, 1, 1, 1, 0, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]] * 2).bool()
    old = torch.zeros(6, 6, dtype=torch.float64)
    with torch.no_grad():
        old[:, 1:] = token_log_probs(policy.net, ids, answer)
    old += 0.2 * torch.randn(6, 6).double() * answer
    return Rollouts(ids, answer, old, torch.randn(6).double(), torch.tensor([0, 0, 0, 1, 1, 1]))


def test_advantages_follow_their_formulas():
    reward = torch.tensor([[1.0, 2.0, 6.0]], dtype=torch.float64)
    assert LeaveOneOut()(reward).tolist() == [[1 - 4, 2 - 3.5, 6 - 1.5]]
    spread = (((1 - 3) ** 2 + (2 - 3) ** 2 + (6 - 3) ** 2) / 2) ** 0.5 + 1e-4
    torch.testing.assert_close(Standardised()(reward), torch.tensor([[-2, -1, 3]], dtype=torch.float64) / spread)
    assert Standardised(scale=False)(reward).tolist() == [[-2, -1, 3]]
    assert Alone()(torch.tensor([[1.0], [3.0]])).tolist() == [[-1], [1]]
    with pytest.raises(UserError, match=r"datamodule\.samples=4"):
        LeaveOneOut()(reward[:, :1])


@pytest.mark.parametrize("divergence", ["reward", "loss"])
@pytest.mark.parametrize("average", ["answers", "tokens"])
def test_the_loss_is_what_its_formula_says_token_by_token(divergence, average):
    policy = method(estimator=GRPO if divergence == "loss" else RLOO, beta=0.3, divergence=divergence, average=average)
    batch = rollouts(policy)
    with torch.no_grad():
        for weight in policy.reference.parameters():
            weight.mul_(0.9)
        log_pi = policy.net(batch.ids).log_softmax(2)
        log_reference = policy.reference(batch.ids).log_softmax(2)
        worth = batch.reward.clone()
        if divergence == "reward":
            for row in range(6):
                for t in range(1, 6):
                    if batch.answer[row, t]:
                        token = batch.ids[row, t]
                        worth[row] -= 0.3 * (batch.log_probs[row, t] - log_reference[row, t - 1, token])
        expected = 0.0
        for row in range(6):
            group = worth[3 * (row // 3) : 3 * (row // 3) + 3]
            if divergence == "reward":
                advantage = worth[row] - (group.sum() - worth[row]) / 2
            else:
                advantage = (worth[row] - group.mean()) / (group.std() + 1e-4)
            count = int(batch.answer[row].sum()) if average == "tokens" else 1
            for t in range(1, 6):
                if not batch.answer[row, t]:
                    continue
                token = batch.ids[row, t]
                ratio = (log_pi[row, t - 1, token] - batch.log_probs[row, t]).exp()
                gain = torch.minimum(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage)
                if divergence == "loss":
                    behind = log_reference[row, t - 1, token] - log_pi[row, t - 1, token]
                    gain = gain - 0.3 * (behind.exp() - behind - 1)
                expected -= gain / (6 * count)
    torch.testing.assert_close(sum(policy.loss(batch).values()), expected)


def test_in_the_mean_it_is_the_gradient_of_the_value(tmp_path):
    """Over many answers the gradient is that of E r - beta KL, written out over all answers."""
    run = planned(
        "preference/policy_gradient", tmp_path, "data=bandit", "net=bigram", "data.prompts=2", "data.answers=4",
        "data.train=4000", "model.beta=0.5", "model.clip=null", "datamodule.batch_size=1000", "datamodule.samples=20",
        "optimizer.lr=0.5",
    )  # fmt: skip
    parts = trained(run)
    policy, world = parts.method, parts.data.world
    batch = next(iter(parts.data.train_dataloader()))
    policy.zero_grad()
    sum(policy.loss(batch).values()).backward()
    found = policy.net.table.weight.grad[:2].clone()
    policy.zero_grad()
    log_pi = policy.all_log_probs(world.prompts, world.answers)
    log_reference = policy.all_reference_log_probs(world.prompts, world.answers)
    share = torch.bincount(batch.ids[:, 0], minlength=2) / len(batch.ids)
    value = (log_pi.exp() * (world.reward.float() - 0.5 * (log_pi - log_reference))).sum(1)
    (-(share * value).sum()).backward()
    expected = policy.net.table.weight.grad[:2]
    assert float(expected.norm()) > 0.03
    torch.testing.assert_close(found, expected, rtol=0, atol=0.012)


def test_it_ends_at_the_optimum_of_the_divergence(tmp_path):
    run = planned(
        "preference/policy_gradient", tmp_path, "data=bandit", "net=bigram", "data.prompts=2", "data.answers=4",
        "data.train=400", "model.beta=0.5", "datamodule.batch_size=100", "datamodule.samples=16", "optimizer.lr=0.1",
        "trainer.max_epochs=40", "trainer.limit_train_batches=1.0", "schedule=linear",
    )  # fmt: skip
    parts = trained(run)
    world = parts.data.world
    with torch.no_grad():
        found = parts.method.all_log_probs(world.prompts, world.answers).double()
    best = (world.reward / 0.5).log_softmax(1)
    assert float((found.exp() * (found - best)).sum(1).mean()) < 5e-3


@pytest.mark.parametrize(
    "wrong", [{"beta": -1.0}, {"clip": 1.0}, {"divergence": "nowhere"}, {"average": "texts"}], ids=str
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}"):
        method(estimator=RLOO, **wrong)

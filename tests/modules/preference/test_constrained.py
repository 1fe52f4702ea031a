"""CGPO: each of its optimizers by hand, and answers that break rules."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import JudgedRollouts
from datamodules.presentations.online import JudgedRolloutData
from datamodules.sources.requests import Requests
from modules.preference.constrained import Constrained
from modules.preference.policy import answer_log_probs
from tests.modules.preference.test_policy_gradient import SMALL, SPEC, rollouts


def made(rule, **arguments):
    torch.manual_seed(0)
    method = Constrained(SPEC, net=SMALL, optimizer_rule=rule, **arguments).double()
    with torch.no_grad():
        for weight in method.net.parameters():
            weight.add_(0.2 * torch.randn_like(weight))
    return method


def judged(method, feasible):
    batch = rollouts(method)
    return JudgedRollouts(*batch, torch.tensor(feasible).bool(), torch.tensor([0.5] * 3 + [-0.2] * 3).double())


@pytest.mark.parametrize("rule", ["crpg", "codpo", "crraft"])
def test_the_loss_is_what_its_formula_says(rule):
    method = made(rule, beta=0.4)
    batch = judged(method, [1, 0, 1, 0, 0, 1])
    log_pi = answer_log_probs(method.net, batch.ids, batch.answer)
    log_ratio = log_pi - answer_log_probs(method.reference, batch.ids, batch.answer)
    worth = torch.sigmoid(batch.reward - batch.baseline)
    good = [[0, 2], [5]]
    bad = [[1], [3, 4]]
    total = 0.0
    for prompt in (0, 1):
        rows = range(3 * prompt, 3 * prompt + 3)
        best = max(good[prompt], key=lambda row: float(worth[row]))
        worst = min(bad[prompt], key=lambda row: float(worth[row]))
        if rule == "crpg":
            kept = [float(worth[row]) if row in good[prompt] else 0.0 for row in rows]
            mean = sum(kept) / 3
            total += sum(-(value - mean) * log_pi[row] for value, row in zip(kept, rows, strict=True)) / 6
        elif rule == "crraft":
            total += -worth[best] * log_pi[best] / 2
        else:
            total += -F.logsigmoid(0.4 * (log_ratio[best] - log_ratio[worst])) / 2
    torch.testing.assert_close(method.loss(batch), total)


@pytest.mark.parametrize("rule", ["codpo", "crraft"])
def test_prompts_without_a_feasible_answer_teach_nothing(rule):
    method = made(rule)
    loss = method.loss(judged(method, [0] * 6))
    assert loss == 0
    loss.backward()
    assert not any(weight.grad.abs().sum() for weight in method.net.parameters() if weight.grad is not None)


def test_answers_too_far_from_the_reference_are_not_feasible():
    near, far = made("crraft", kl=1e3), made("crraft")
    for method in (near, far):  # the perturbed one is the reference, so that some ratios are above 1
        method.net, method.reference = method.reference.requires_grad_(), method.net
    batch = rollouts(far)
    log_ratio = answer_log_probs(far.net, batch.ids, batch.answer) - far.reference_log_probs(batch.ids, batch.answer)
    far.kl = float(log_ratio.median())
    assert far.kl > 0
    assert far.loss(judged(far, [1] * 6)) == near.loss(judged(near, (log_ratio <= far.kl).tolist()))


def test_rules_are_about_what_the_judge_says():
    data = JudgedRolloutData(Requests(train=20, validation=4, test=4), rules={"rude": 0, "words": 2})
    figures = {name: torch.tensor([0.0, 0.0, 1.0]) for name in ("reward", "rude")} | {"words": torch.tensor([2, 3, 1])}
    assert data.feasible(figures).tolist() == [True, False, False]
    data.rules = {"rud": 0}
    with pytest.raises(UserError, match=r"datamodule\.rules=rud(.|\n)*did you mean rude"):
        data.feasible(figures)


@pytest.mark.parametrize("wrong", [{"rule": "ppo"}, {"rule": "crpg", "kl": 0.0}, {"rule": "codpo", "beta": 0.0}])
def test_wrong_values_are_refused(wrong):
    with pytest.raises(UserError, match="model"):
        made(**wrong)

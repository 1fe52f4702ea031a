"""Contrastive policy gradient: its optimum, its gradient, and what it becomes."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.policy_gradient import CoPG, PolicyGradient
from modules.preference.objectives.referenced import IPO

BETA = 0.4


def world(seed: int = 0):
    """Logits, reference and rewards of five answers, and all pairs of them."""
    draw = torch.Generator().manual_seed(seed)
    logits, reference, reward = torch.randn(3, 5, generator=draw, dtype=torch.float64)
    first, second = torch.cartesian_prod(torch.arange(5), torch.arange(5)).T
    return logits.requires_grad_(), reference.log_softmax(0), reward, first, second


def of(logits, reference, reward, first, second) -> Pairs:
    log_pi, one = logits.log_softmax(0), torch.ones(len(first), dtype=torch.float64)
    return Pairs(
        log_pi[first], log_pi[second], reference[first], reference[second], one, one, reward[first], reward[second]
    )


def test_its_minimum_is_the_best_policy_whoever_wrote_the_answers():
    _, reference, reward, first, second = world()
    best = (reference + reward / BETA).requires_grad_()
    for rows in (torch.arange(25), torch.arange(7)):  # all pairs, or a few of them
        loss = CoPG(BETA)(of(best, reference, reward, first[rows], second[rows]))
        assert float(loss.detach()) == pytest.approx(0, abs=1e-24)
    off = torch.autograd.grad(PolicyGradient(BETA, "none")(of(best, reference, reward, first, second)), best)[0]
    assert off.abs().max() > 1e-2  # the baseline moves away from it


def test_on_its_own_answers_its_gradient_is_twice_that_of_reinforce():
    """E over two answers of pi of the gradient is -2 times that of E R, the baseline being the other answer."""
    logits, reference, reward, first, second = world(1)
    pi = logits.detach().softmax(0)
    weight = pi[first] * pi[second]
    log_pi = logits.log_softmax(0)
    gap = (reward - BETA * (log_pi - reference))[first] - (reward - BETA * (log_pi - reference))[second]
    (ours,) = torch.autograd.grad((weight * gap.square()).sum() / (2 * BETA), logits, retain_graph=True)
    value = (log_pi.exp() * (reward - BETA * (log_pi - reference))).sum()
    (theirs,) = torch.autograd.grad(value, logits)
    torch.testing.assert_close(ours, -2 * theirs)


def test_the_loss_is_that_expectation():
    logits, reference, reward, first, second = world(2)
    given = of(logits, reference, reward, first, second)
    r = reward - BETA * (logits.log_softmax(0) - reference)
    torch.testing.assert_close(CoPG(BETA)(given), (r[first] - r[second]).square().mean() / (2 * BETA))


def test_scores_half_apart_are_ipo():
    logits, reference, _, first, second = world(3)
    half = torch.full((25,), 0.5, dtype=torch.float64)
    given = of(logits, reference, torch.zeros(5, dtype=torch.float64), first, second)
    scored = given._replace(chosen_score=half, rejected_score=0 * half)
    torch.testing.assert_close(CoPG(BETA)(scored), BETA / 2 * IPO(BETA)(given))


def test_reinforce_is_written_out():
    logits, reference, reward, first, second = world(4)
    given = of(logits, reference, reward, first, second)
    (found,) = torch.autograd.grad(PolicyGradient(BETA, "mean")(given), logits)
    log_pi = logits.log_softmax(0)
    r = (reward - BETA * (log_pi - reference)).detach()
    both = torch.cat([first, second])
    (expected,) = torch.autograd.grad(-((r[both] - r[both].mean()) * log_pi[both]).mean(), logits)
    torch.testing.assert_close(found, expected)


def test_pairs_without_scores_and_bad_values_are_refused():
    logits, reference, reward, first, second = world()
    with pytest.raises(UserError, match="the pairs have none"):
        CoPG()(of(logits, reference, reward, first, second)._replace(chosen_score=None))
    with pytest.raises(UserError, match="beta=0"):
        CoPG(0)
    with pytest.raises(UserError, match="baseline=meen"):
        PolicyGradient(baseline="meen")

"""SRPO: its minimum is the solution of its game, whoever wrote the answers; IPO's and DPO's is not."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.referenced import DPO, IPO
from modules.preference.objectives.srpo import SRPO

BETA = 0.3
A = 5


def world(seed: int = 0):
    """P (a preferred to b), and a reference and reference revisions, of five answers."""
    draw = torch.Generator().manual_seed(seed)
    gap = 2 * torch.randn(A, A, generator=draw, dtype=torch.float64)
    wins = torch.sigmoid(gap - gap.T)
    reference = torch.randn(A, generator=draw, dtype=torch.float64).log_softmax(0)
    revision = torch.randn(A, A, generator=draw, dtype=torch.float64).log_softmax(1)
    return wins, reference, revision


def solution(wins, reference, revision):
    """ln pi (A,) and ln of the revisions [y', y] (A, A) of the game, in closed form."""
    unnormalised = revision + wins.T / BETA  # [y', y]: P(y > y')
    constant = unnormalised.logsumexp(1)
    return (reference - constant).log_softmax(0), unnormalised.log_softmax(1)


def expected_loss(objective, log_pi, log_revised, wins, reference, revision, weight):
    """The mean of a loss over all pairs (a, b), drawn with weight (A, A), and their labels."""
    first, second = torch.cartesian_prod(torch.arange(A), torch.arange(A)).T
    one = torch.ones(1, dtype=torch.float64)
    ratio = log_revised - revision
    total = 0.0
    for a, b in zip(first.tolist(), second.tolist(), strict=True):
        both = torch.tensor([a, b])
        given = Pairs(
            log_pi[a][None], log_pi[b][None], reference[a][None], reference[b][None], one, one,
            revised=ratio[both][:, both][None],
        )  # fmt: skip
        value = objective(given)
        value = sum(value.values()) if isinstance(value, dict) else value
        total = total + weight[a, b] * wins[a, b] * value
    return total


def gradients(objective, log_pi, log_revised, *rest):
    log_pi, log_revised = log_pi.clone().requires_grad_(), log_revised.clone().requires_grad_()
    loss = expected_loss(objective, log_pi.log_softmax(0), log_revised.log_softmax(1), *rest)
    found = torch.autograd.grad(loss, (log_pi, log_revised), allow_unused=True)
    return [float(g.abs().max()) for g in found if g is not None]


def both_ways(draw) -> torch.Tensor:
    """How often each pair is recorded, in either order alike."""
    weight = torch.rand(A, A, generator=draw, dtype=torch.float64)
    return weight + weight.T


def test_the_closed_form_is_the_solution_of_the_game():
    """No revision gains on its own, and no policy loses less, when both are moved by ascent and descent."""
    wins, reference, revision = world()
    log_pi, log_revised = (part.clone().requires_grad_() for part in solution(wins, reference, revision))
    pi, revised = log_pi.log_softmax(0), log_revised.log_softmax(1)
    value = (pi.exp()[:, None] * revised.exp() * (wins.T - BETA * (revised - revision))).sum()
    value = value + BETA * (pi.exp() * (pi - reference)).sum()
    for gradient in torch.autograd.grad(value, (log_pi, log_revised)):
        assert float(gradient.abs().max()) < 1e-12


@pytest.mark.parametrize("alpha", [0.2, 0.8])
def test_the_solution_is_the_minimum_whoever_wrote_the_answers(alpha):
    wins, reference, revision = world()
    draw = torch.Generator().manual_seed(1)
    for _ in range(2):
        rest = (wins, reference, revision, both_ways(draw))
        assert max(gradients(SRPO(BETA, alpha), *solution(wins, reference, revision), *rest)) < 1e-12


def test_no_policy_is_a_minimum_of_ipo_or_dpo_for_all_who_write():
    wins, reference, revision = world()
    draw = torch.Generator().manual_seed(1)
    one, other = both_ways(draw), both_ways(draw)
    for objective in (IPO(BETA), DPO(BETA)):
        logits = reference.clone().requires_grad_()
        step = torch.optim.LBFGS(
            [logits], max_iter=500, tolerance_grad=1e-12, tolerance_change=1e-16, line_search_fn="strong_wolfe"
        )

        def closure(logits=logits, step=step, objective=objective):
            step.zero_grad()
            loss = expected_loss(objective, logits.log_softmax(0), revision, wins, reference, revision, one)
            loss.backward()
            return loss

        step.step(closure)
        found = logits.detach()
        assert max(gradients(objective, found, revision, wins, reference, revision, one)) < 1e-6
        assert max(gradients(objective, found, revision, wins, reference, revision, other)) > 1e-3


def test_the_terms_are_written_out():
    chosen, rejected, r_cc, r_rc, r_cr, r_rr = 0.3, -0.2, 0.5, -0.1, 0.7, -0.4  # r_rc: the rejected after the chosen
    number = lambda value: torch.tensor([value])  # noqa: E731
    pairs = Pairs(number(chosen), number(rejected), *[torch.zeros(1)] * 2, *[torch.ones(1)] * 2)
    pairs = pairs._replace(revised=torch.tensor([[[r_cc, r_rc], [r_cr, r_rr]]]))
    terms = SRPO(beta=0.5, alpha=0.25)(pairs)
    assert float(terms["revision"]) == pytest.approx(0.75 * ((0.5 - 0.5 * 1.1) ** 2 + (0.5 - 0.5 * 0.6) ** 2))
    assert float(terms["policy"]) == pytest.approx(0.25 * (1 - 0.5 * (0.8 + 0.5)) ** 2)


def test_a_policy_that_revises_nothing_and_numbers_out_of_range_are_refused():
    zero = torch.zeros(1)
    with pytest.raises(UserError, match="needs a policy that also revises"):
        SRPO()(Pairs(zero, zero, zero, zero, zero, zero))
    for arguments in ({"beta": 0}, {"alpha": 0}, {"alpha": 1}):
        with pytest.raises(UserError, match=f"model.objective.{next(iter(arguments))}="):
            SRPO(**arguments)

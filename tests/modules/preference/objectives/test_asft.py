"""ASFT against sigmoids written out in float64, and its gradients against the paper's account of DPO's."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.asft import ASFT
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.referenceless import ORPO


def pairs(chosen, rejected, lengths=((2, 3), (1, 4))) -> Pairs:
    chosen, rejected = (torch.tensor(values, dtype=torch.float64) for values in (chosen, rejected))
    zero = torch.zeros_like(chosen)
    return Pairs(chosen, rejected, zero, zero, *torch.tensor(lengths, dtype=torch.float64).unbind(1))


def test_it_is_two_sigmoids_of_log_odds_and_the_likelihood():
    terms = ASFT(weight=0.7)(pairs([-1.3, -0.4], [-2.1, -5.0]))
    sigma = lambda x: 1 / (1 + math.exp(-x))  # noqa: E731
    odds = lambda log_p: math.log(math.exp(log_p) / (1 - math.exp(log_p)))  # noqa: E731
    expected = sum(
        -math.log(sigma(odds(w))) - math.log(sigma(-odds(l)))
        for w, l in ((-1.3 / 2, -2.1 / 3), (-0.4, -5.0 / 4))  # noqa: E741
    )
    assert float(terms["good"] + terms["bad"]) == pytest.approx(0.7 * expected / 2)
    assert float(terms["likelihood"]) == pytest.approx(1.7 / 3)
    given = pairs([-1.3, -0.4], [-2.1, -5.0])
    assert float(terms["likelihood"]) == float(ORPO()(given)["likelihood"])


def test_a_rejected_answer_that_is_unlikely_is_left_alone():
    """Its pull on ln p is p / (1 - p); that of DPO goes on as long as the margin is short."""
    rejected = torch.tensor([-0.1, -3.0, -30.0], dtype=torch.float64, requires_grad=True)
    one = torch.ones(3, dtype=torch.float64)
    terms = ASFT(weight=1.0)(Pairs(-one, rejected, one, one, one, one))
    (pull,) = torch.autograd.grad(3 * terms["bad"], rejected)
    p = rejected.detach().exp()
    torch.testing.assert_close(pull, p / (1 - p))


@pytest.mark.parametrize("value", [-1e-12, -0.0, -1e4])
def test_it_is_finite_at_the_ends(value):
    given = pairs([value, -1.0], [value, -1.0])
    rejected = given.rejected.clone().requires_grad_()
    total = sum(ASFT()(given._replace(rejected=rejected)).values())
    assert torch.isfinite(total)
    assert torch.isfinite(torch.autograd.grad(total, rejected)[0]).all()


def test_a_negative_weight_is_refused():
    with pytest.raises(UserError, match=r"model\.objective\.weight=-1"):
        ASFT(weight=-1)

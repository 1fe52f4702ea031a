"""R-DPO: its optimum, its limit, and which answers teach less."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.r_dpo import RDPO
from modules.preference.objectives.referenced import DPO


def test_its_optimum_is_that_of_the_reward_less_the_price_of_length():
    """All pairs with their true probabilities: the gradient is 0 at pi ~ pi_ref exp((r - alpha |y|) / beta)."""
    draw = torch.Generator().manual_seed(0)
    reward, reference = torch.randn(2, 6, generator=draw, dtype=torch.float64)
    length = torch.tensor([1.0, 9.0, 4.0, 4.0, 30.0, 2.0], dtype=torch.float64)
    alpha, beta = 0.2, 0.7
    logits = (reference.log_softmax(0) + (reward - alpha * length) / beta).requires_grad_()
    log_pi, log_reference = logits.log_softmax(0), reference.log_softmax(0)
    total = 0.0
    for a in range(6):
        for b in range(6):
            rows = (log_pi[a], log_pi[b], log_reference[a], log_reference[b], length[a], length[b])
            total = total + torch.sigmoid(reward[a] - reward[b]) * RDPO(alpha, beta)(
                Pairs(*(row[None] for row in rows))
            )
    (gradient,) = torch.autograd.grad(total, logits)
    assert gradient.abs().max() < 1e-12


def test_without_a_price_or_a_difference_of_length_it_is_dpo_and_longer_chosen_answers_teach_less():
    draw = torch.Generator().manual_seed(1)
    four = torch.randn(4, 8, generator=draw, dtype=torch.float64)
    long, short = torch.full((8,), 9.0, dtype=torch.float64), torch.full((8,), 2.0, dtype=torch.float64)
    dpo = DPO(0.3, 0.1)(Pairs(*four, long, short))
    torch.testing.assert_close(RDPO(0.0, 0.3, 0.1)(Pairs(*four, long, short)), dpo)
    torch.testing.assert_close(RDPO(0.5, 0.3, 0.1)(Pairs(*four, long, long)), dpo)
    margin = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    zero = torch.zeros(3, dtype=torch.float64)
    lengths = torch.tensor([[9.0, 2.0], [5.0, 5.0], [2.0, 9.0]], dtype=torch.float64).unbind(1)
    (pull,) = torch.autograd.grad(RDPO(0.1, 0.3)(Pairs(margin, zero, zero, zero, *lengths)), margin)
    assert pull[0].abs() < pull[1].abs() < pull[2].abs()


def test_a_negative_price_is_refused():
    with pytest.raises(UserError, match=r"model\.objective\.alpha=-1"):
        RDPO(alpha=-1)

"""Masked diffusion: its bound against a likelihood that is known, and against sums over all patterns of masks."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Tokens
from datamodules.spec import DataSpec
from modules.capabilities import Sampler, SequenceDensity
from modules.generative.masked_diffusion import SCHEDULES, MaskedDiffusion

LENGTH, VOCABULARY = 3, 2
SPEC = DataSpec(name="pairs", kind="text", shape=(LENGTH,), vocabulary=VOCABULARY)
DRAW = torch.Generator().manual_seed(0)
JOINT = torch.rand((VOCABULARY,) * LENGTH, generator=DRAW, dtype=torch.float64).add(0.1)
JOINT = JOINT / JOINT.sum()


class Exact(nn.Module):
    """The conditionals of a joint law, p(x^i | the places of z that are no masks), or those of a table at random."""

    def __init__(self, table: torch.Tensor | None = None) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones((), dtype=torch.float64))
        if table is None:
            table = torch.zeros((VOCABULARY + 1,) * LENGTH + (LENGTH, VOCABULARY), dtype=torch.float64)
            for state in torch.cartesian_prod(*[torch.arange(VOCABULARY + 1)] * LENGTH).tolist():
                for place in range(LENGTH):
                    law = JOINT
                    for dim, token in enumerate(state):
                        if token < VOCABULARY and dim != place:
                            law = law.index_select(dim, torch.tensor([token]))
                    others = [dim for dim in range(LENGTH) if dim != place]
                    table[(*state, place)] = law.sum(others).log()
        self.table = table

    def forward(self, z):
        logits = self.table[tuple(z.T)] * self.scale
        return torch.cat([logits, logits.new_full((*z.shape, 1), 30.0)], dim=2)  # the mask is no answer, however likely


class Precise(MaskedDiffusion):
    """Without the rounding to float32."""

    def log_probs(self, z):
        return self.net(z)[..., : self.mask].log_softmax(2)


def windows(x):
    """Tokens (B, T) -> a batch in which they are what is modelled."""
    return Tokens(torch.cat([torch.zeros_like(x[:, :1]), x], dim=1))


def cost(method, x):
    """sum_n 1 / n E over patterns of n masks of -ln p at the masked places, by enumeration (B,)."""
    total = torch.zeros(len(x), dtype=torch.float64)
    for n in range(1, LENGTH + 1):
        patterns = list(combinations(range(LENGTH), n))
        for pattern in patterns:
            masked = torch.zeros_like(x, dtype=torch.bool)
            masked[:, list(pattern)] = True
            total += method.hidden(x, masked).sum(1) / n / len(patterns)
    return total.detach()


ALL = torch.cartesian_prod(*[torch.arange(VOCABULARY)] * LENGTH)


def test_with_exact_conditionals_the_bound_is_the_likelihood():
    method = Precise(SPEC, net=Exact())
    torch.testing.assert_close(-cost(method, ALL), JOINT.flatten().log(), rtol=0, atol=1e-12)


def test_a_wrong_model_pays_and_the_bound_says_how_much():
    """The bound is that of a mixture of orders, by Jensen's inequality at most the log of the averaged likelihood."""
    table = torch.randn((VOCABULARY + 1,) * LENGTH + (LENGTH, VOCABULARY), generator=DRAW, dtype=torch.float64)
    method = Precise(SPEC, net=Exact(table))
    torch.manual_seed(0)
    bound = -cost(method, ALL)
    assert float(bound.exp().sum()) < 1
    repeated = ALL.repeat(4000, 1)
    estimate = method.sequence_log_prob(repeated).view(4000, -1)
    error = estimate.std(0) / 4000**0.5
    assert float(((estimate.mean(0) - bound).abs() / error).max()) < 4.5


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_the_loss_of_any_schedule_is_the_bound_per_token(schedule):
    table = torch.randn((VOCABULARY + 1,) * LENGTH + (LENGTH, VOCABULARY), generator=DRAW, dtype=torch.float64)
    method = Precise(SPEC, net=Exact(table), schedule_of_masks=schedule, margin=1e-5)
    torch.manual_seed(0)
    losses = [float(method.loss(windows(ALL.repeat(1000, 1))).detach()) for _ in range(40)]
    mean = sum(losses) / len(losses)
    error = (sum((loss - mean) ** 2 for loss in losses) / len(losses) / (len(losses) - 1)) ** 0.5
    expected = float(cost(method, ALL).mean()) / LENGTH
    assert abs(mean - expected) < 4.5 * error
    assert error < 0.01 * expected


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_the_weight_is_the_rate_of_masking(schedule):
    alpha, weight = SCHEDULES[schedule]
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(alpha(t).sum(), t)
    torch.testing.assert_close(weight(t), -slope / (1 - alpha(t)))
    ends = alpha(torch.tensor([0.0, 1.0], dtype=torch.float64))
    torch.testing.assert_close(ends, torch.tensor([1.0, 0.0], dtype=torch.float64))


def test_a_uniform_guess_costs_the_log_of_the_vocabulary():
    method = Precise(SPEC, net=Exact(torch.zeros((VOCABULARY + 1,) * LENGTH + (LENGTH, VOCABULARY)).double()))
    torch.manual_seed(0)
    torch.testing.assert_close(
        method.sequence_log_prob(ALL), torch.full((8,), -LENGTH * math.log(2), dtype=torch.float64), rtol=0, atol=1e-12
    )


def test_draws_and_completions():
    torch.manual_seed(0)
    hitting = {"_target_": "modules.generative.unmasking.first_hitting.FirstHitting"}
    method = Precise(SPEC, net=Exact(), unmasking=hitting)
    assert isinstance(method, Sampler)
    assert isinstance(method, SequenceDensity)
    drawn = method.sample(40_000)
    share = ((drawn * torch.tensor([4, 2, 1])).sum(1).bincount(minlength=8) / 40_000).double()
    law = JOINT.flatten()
    assert float(((share - law).abs() / (law * (1 - law) / 40_000).sqrt()).max()) < 4.5
    given = torch.tensor([[1, 2, 0]]).expand(40_000, 3)
    middle = float((method.complete(given)[:, 1] == 1).double().mean())
    expected = float(JOINT[1, 1, 0] / JOINT[1, :, 0].sum())
    assert middle == pytest.approx(expected, abs=4.5 * 0.5 / 200)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule_of_masks": "square"}, "schedule_of_masks=square"),
        ({"bound_draws": 0}, "bound_draws=0"),
        ({"margin": 0.0}, "margin=0.0"),
        ({"unmasking": {"_target_": "modules.generative.unmasking.remdm.ReMDM", "step": 3}}, "takes no 'step'"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        MaskedDiffusion(SPEC, net=Exact(), **arguments)

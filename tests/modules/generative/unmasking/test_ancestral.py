"""Ancestral sampling against its law, summed over all paths."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from modules.generative.unmasking.ancestral import Ancestral
from modules.generative.unmasking.categorical import categorical
from tests.modules.generative.unmasking.fakes import Tabulated, constant, far, frequencies

N = 40_000


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("steps", [1, 3])
def test_draws_have_the_law_of_the_steps(steps, schedule):
    torch.manual_seed(0)
    model, sampler = Tabulated(2, 3, schedule), Ancestral(steps)
    law = model.after(sampler.plan(model))
    assert float(law[:3, :3].sum()) == pytest.approx(1, abs=1e-12)
    assert far(frequencies(sampler(model, model.masks(N)), 4), law, N) < 4.5


def test_with_many_steps_it_fills_in_one_after_the_other():
    """The distance to the average over all orders is of first order in the step."""
    model = Tabulated(3, 2)
    errors = [
        float((model.after(Ancestral(steps).plan(model))[:2, :2, :2] - model.in_random_order()).abs().sum())
        for steps in (8, 16, 32)
    ]
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.15)
    assert errors[1] / errors[2] == pytest.approx(2, rel=0.1)


def test_the_network_is_not_asked_again_while_nothing_changes():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    Ancestral(1000)(model, model.masks(1))
    assert model.calls == 3


def test_tokens_that_are_there_stay():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    z = torch.tensor([[0, 2, 1], [2, 1, 2]]).repeat(50, 1)
    out = Ancestral(5)(model, z)
    assert torch.equal(out[z != 2], z[z != 2])
    assert (out < 2).all()


def test_draws_have_the_law_that_is_asked_for():
    torch.manual_seed(0)
    weights = torch.tensor([0.5, 0.3, 0.15, 0.05]).log() + 7
    for precision in (torch.float32, torch.float64):
        drawn = categorical(weights.expand(N, 4), precision)
        law = torch.tensor([0.5, 0.3, 0.15, 0.05]).double()
        assert far(frequencies(drawn[:, None], 4), law, N) < 4.5


def test_few_bits_cut_the_tail_off():
    """With u = 1 - k d, d = 2^-11, k = 1, 2, ... the waits are about k d, and a category of weight w against one of
    about 1, whose wait W is exponential, wins with probability sum_k d P(W > k d / w) = d / (exp(d / w) - 1).
    """
    torch.manual_seed(0)
    rare = 1e-3
    weights = torch.tensor([1 - rare, rare]).log().expand(1_000_000, 2)
    share = {name: float((categorical(weights, name) == 1).double().mean()) for name in (torch.float16, torch.float64)}
    assert share[torch.float64] == pytest.approx(rare, abs=4.5e-6 * 31.6)
    cut = 2**-11 / math.expm1(2**-11 / rare)
    assert cut == pytest.approx(0.776 * rare, rel=1e-3)
    assert share[torch.float16] == pytest.approx(cut, abs=6e-6 * 31.6)


def test_few_bits_in_many_steps_leave_rare_tokens_out():
    torch.manual_seed(0)
    model = constant(0.95, 0.05)
    z = torch.full((4000, 1), 2)
    shares = {
        precision: float(Ancestral(200, precision)(model, z).double().mean()) for precision in ("float16", "float64")
    }
    assert shares["float64"] == pytest.approx(0.05, abs=4.5 * (0.05 * 0.95 / 4000) ** 0.5)
    assert shares["float16"] < 0.04


@pytest.mark.parametrize(
    ("arguments", "message"), [({"steps": 0}, "steps=0"), ({"precision": "double"}, "precision=double")]
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        Ancestral(**arguments)

"""ReMDM: the same marginals as without remasking, and its law summed over all paths."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.generative.masked_diffusion import SCHEDULES
from modules.generative.unmasking.ancestral import Ancestral
from modules.generative.unmasking.remdm import ReMDM
from tests.modules.generative.unmasking.fakes import Tabulated, far, frequencies

N = 40_000
LOOP = {"sigma": "loop", "t_on": 0.6, "t_off": 0.1, "alpha_on": 0.8}
KINDS = [{"sigma": "cap", "eta": 0.3}, {"sigma": "rescale", "eta": 0.5}, {"eta": 1.0}, LOOP | {"eta": 0.2}]


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("kind", KINDS)
def test_marginals_are_those_of_the_forward_process(kind, schedule):
    """Where p is the true token, each place of z_s is unmasked with probability alpha_s, and independently."""
    model = Tabulated(2, 2, schedule)
    model.table = torch.full_like(model.table, -torch.inf)
    model.table[..., 0, 1] = model.table[..., 1, 0] = 0.0  # x = (1, 0), whatever z is
    steps = list(ReMDM(10, **kind).plan(model))
    assert max(step.sigma for step in steps) > 0.1
    for count in range(1, len(steps) + 1):
        alpha = steps[count - 1].alpha_s
        law = torch.zeros(3, 3, dtype=torch.float64)
        law[1, 0], law[1, 2], law[2, 0], law[2, 2] = (
            alpha**2,
            alpha * (1 - alpha),
            alpha * (1 - alpha),
            (1 - alpha) ** 2,
        )
        torch.testing.assert_close(model.after(steps[:count]), law, rtol=0, atol=1e-12)
    if kind is not KINDS[-1]:  # a loop has times of its own
        grid = torch.linspace(1, 0, 11, dtype=torch.float64)[1:]
        expected = SCHEDULES[schedule].alpha(grid)
        torch.testing.assert_close(torch.tensor([step.alpha_s for step in steps]).double(), expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_draws_have_the_law_of_the_steps(kind):
    torch.manual_seed(0)
    model, sampler = Tabulated(2, 2), ReMDM(4, **kind)
    law = model.after(sampler.plan(model))
    assert float(law[:2, :2].sum()) == pytest.approx(1, abs=1e-12)
    assert far(frequencies(sampler(model, model.masks(N)), 3), law, N) < 4.5


def test_without_remasking_it_is_ancestral_sampling():
    model = Tabulated(3, 2)
    for kind in ({"eta": 0.0}, {"eta": 0.0, "confidence": True}, {"eta": 0.7, "t_on": 0.02, "t_off": 0.01}):
        torch.manual_seed(0)
        assert list(ReMDM(8, **kind).plan(model)) == list(Ancestral(8).plan(model))


def test_remasking_mends_what_was_drawn_with_too_little_in_sight():
    """A model that knows how each place depends on the other, but thinks 0 likely when it sees masks alone. Ancestral
    sampling keeps that error however many steps it makes: 2 (0.9 - 0.5) (0.7 - 0) = 0.56 in the limit. Remasking asks
    the good conditionals again and again, and its error goes on falling.
    """
    joint = torch.tensor([[0.35, 0.15], [0.15, 0.35]], dtype=torch.float64)
    model = Tabulated(2, 2)
    model.table = torch.tensor([0.9, 0.1], dtype=torch.float64).log().expand_as(model.table).clone()
    for other in range(2):
        model.table[2, other, 0] = (joint[:, other] / joint[:, other].sum()).log()
        model.table[other, 2, 1] = (joint[other] / joint[other].sum()).log()

    def distance(sampler):
        return float((model.after(sampler.plan(model))[:2, :2] - joint).abs().sum())

    ancestral = {steps: distance(Ancestral(steps)) for steps in (8, 32, 128)}
    assert ancestral[128] == pytest.approx(0.56, abs=0.005)
    assert ancestral[8] - ancestral[128] < 0.05
    for kind in ({"eta": 0.1}, {"sigma": "rescale", "eta": 0.1}, {**LOOP, "eta": 0.1}):
        gaps = [ancestral[steps] - distance(ReMDM(steps, **kind)) for steps in (8, 32, 128)]
        assert 0 < gaps[0] < gaps[1] < gaps[2]
        assert gaps[2] > 0.19


def test_the_surer_of_two_tokens_is_masked_less_often():
    """sigma softmax(-psi)_i for psi = 0.9 and 0.2, tallied over one step from two settled tokens."""
    model = Tabulated(2, 2)
    model.table = torch.tensor([[0.9, 0.1], [0.2, 0.8]], dtype=torch.float64).log().expand_as(model.table).clone()
    torch.manual_seed(0)
    sampler = ReMDM(1, confidence=True)
    # Step one fills both in; step two masks some again; nothing after it.
    first = next(Ancestral(1).plan(model))
    again = first._replace(alpha_t=0.5, alpha_s=0.5, sigma=0.6)
    sampler.plan = lambda _: iter([first, again])
    out = sampler(model, model.masks(N))
    probabilities = torch.tensor([[0.9, 0.1], [0.2, 0.8]])
    expected = torch.zeros(2)
    for a in range(2):
        for b in range(2):
            psi = torch.stack([probabilities[0, a], probabilities[1, b]])
            expected += psi.prod() * 0.6 * (-psi).softmax(0)
    got = (out == 2).float().mean(0)
    torch.testing.assert_close(got, expected, rtol=0, atol=4.5 * 0.5 / N**0.5)


def test_tokens_that_are_there_stay():
    torch.manual_seed(0)
    model = Tabulated(3, 2)
    z = torch.tensor([[0, 2, 1], [2, 1, 2]]).repeat(50, 1)
    for kind in (*KINDS, {"confidence": True, "eta": 1.0}):
        out = ReMDM(6, **kind)(model, z)
        assert torch.equal(out[z != 2], z[z != 2])
        assert (out < 2).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": "max"}, "sigma=max"),
        ({"eta": 1.5}, "eta=1.5"),
        ({"t_on": 0.1, "t_off": 0.2}, "t_off=0.2"),
        ({"sigma": "loop"}, "a loop has"),
    ],
)
def test_mistakes_are_named(arguments, message):
    with pytest.raises(UserError, match=message):
        ReMDM(**arguments)

"""The initialiser: where its proposals come from, and what it learns from the steps."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.cooperative_diffusion import CooperativeDiffusion
from tests.modules.generative.test_diffusion_recovery import VARIANCE, GaussianField

PLANE = DataSpec(name="plane", kind="vector", shape=(2,))
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


class Shift(nn.Module):
    """g(x, t) = (1 + factor) x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x, t):
        return self.factor * x


def exact(**arguments) -> CooperativeDiffusion:
    method = CooperativeDiffusion(PLANE, levels=6, net=MLP, **arguments)
    method.net = GaussianField(6)
    return method


def test_a_perfect_initialiser_proposes_the_law_of_a_single_record():
    """For data at one point m, y given x_t is N(mean, d^2) with the mean by conditioning, exactly."""
    torch.manual_seed(0)
    method, m = exact(), 0.7
    level = torch.full((50_000,), 4)
    a, s = (float(part) for part in method.scale(level[:1]))
    before = float(method.kept(level[:1] - 1))
    y = a * (before**0.5 * m + (1 - before) ** 0.5 * torch.randn(50_000))
    x = y + s * torch.randn(50_000)
    # Regression of y on x: its slope, and the variance that is left.
    slope = float(torch.cov(torch.stack([y, x]))[0, 1] / x.var())
    left = float((y - slope * x).var())
    method.initialiser = Shift(0.0)
    proposal = method.propose(torch.zeros(50_000, 2), level)
    assert float(proposal.detach().var()) == pytest.approx(left, rel=0.03)


@pytest.mark.parametrize("level", [2, 4])
def test_the_initialiser_is_drawn_to_the_posterior_mean(level):
    """Under the exact energy y given x is Gaussian with mean x v / (v + s^2): there its gradient vanishes."""
    torch.manual_seed(0)
    method = exact(steps=5)
    levels = torch.full((40_000,), level)
    y, x = method.diffuse(VARIANCE**0.5 * torch.randn(40_000, 2), levels)
    a, s = (float(part) for part in method.scale(levels[:1]))
    before = float(method.kept(levels[:1] - 1))
    v = a**2 * (before * VARIANCE + 1 - before)
    best = v / (v + s**2) - 1

    def gradient(factor: float) -> float:
        method.initialiser = Shift(factor)
        term = method.contrast(y, x, levels)["initialiser"]
        return float(torch.autograd.grad(term, method.initialiser.factor)[0])

    assert gradient(best) == pytest.approx(0, abs=0.03)
    assert gradient(best + 0.5) > 0.1
    assert gradient(best - 0.5) < -0.1


def test_the_two_networks_learn_from_their_own_terms():
    torch.manual_seed(0)
    method = CooperativeDiffusion(PLANE, steps=2, net=MLP)
    terms = method.loss(Unlabelled(torch.randn(16, 2)))
    weights = {"energy": method.net, "initialiser": method.initialiser}
    for name, term in terms.items():
        for owner, net in weights.items():
            slopes = torch.autograd.grad(term, list(net.parameters()), retain_graph=True, allow_unused=True)
            assert any(slope is not None and slope.any() for slope in slopes) == (owner == name)

"""Reflected diffusion, against the heat equation in a box and laws that are known in closed form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.reflected_diffusion import ReflectedDiffusion, kernel_score, reflected

SPEC = DataSpec(name="box", kind="vector", shape=(2,), bounds=(-2.0, 2.0), sizes={"train": 100})
POINTS = torch.tensor([[0.2, 0.9], [0.6, 0.5]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)


def density(x, clean, sigma, terms=60):
    """The series of the heat equation with insulated faces, with many terms: x and x_0 (...)."""
    k = math.pi * torch.arange(1, terms + 1, dtype=torch.float64)
    sigma = torch.as_tensor(sigma, dtype=torch.float64)[..., None]
    waves = (-0.5 * (k * sigma) ** 2).exp() * (k * clean[..., None]).cos() * (k * x[..., None]).cos()
    return 1 + 2 * waves.sum(-1)


def mixture(x, sigma):
    """ln p(x) (B,) of the points at a noise level: x (B, 2)."""
    parts = density(x[:, None], POINTS, sigma).clamp_min(1e-300).log().sum(2)
    return (WEIGHTS.log() + parts).logsumexp(1)


class Exact(nn.Module):
    """sigma times the score of the points."""

    def __init__(self, low, high):
        super().__init__()
        self.low, self.high, self.nothing = low, high, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t):
        x = (x + 1) / 2
        sigma = self.low * (t * math.log(self.high / self.low)).exp()[:, None]
        clean = POINTS.expand(len(x), -1, -1)
        scores = kernel_score(x[:, None].expand_as(clean), clean, sigma[..., None])
        parts = density(x[:, None], POINTS, sigma[..., None]).clamp_min(1e-300).log().sum(2)
        share = (WEIGHTS.log() + parts).softmax(1)
        return sigma * (share[..., None] * scores).sum(1) + self.nothing


class Even(nn.Module):
    """The score of records that are uniform in the box: zero."""

    def __init__(self):
        super().__init__()
        self.nothing = nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t):
        return torch.zeros_like(x) + self.nothing


def method(net, spec=SPEC, **changes):
    values = compose(["model=generative/reflected_diffusion"]).values["model"] | changes | {"net": net}
    return ReflectedDiffusion(spec, **{key: value for key, value in values.items() if key != "_target_"}).double()


@pytest.mark.parametrize("sigma", [0.08, 0.3, 0.499, 0.501, 1.0, 4.0])
def test_the_score_is_the_derivative_of_the_heat_kernel(sigma):
    x = torch.linspace(0.01, 0.99, 50, dtype=torch.float64, requires_grad=True)
    clean = torch.full_like(x, 0.3)
    values = density(x, clean, sigma)
    (expected,) = torch.autograd.grad(values.log().sum(), x)
    found = kernel_score(x.detach(), clean, torch.full_like(x, sigma))
    likely = values > 1e-6
    torch.testing.assert_close(found[likely], expected[likely], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("sigma", [0.2, 0.8])
def test_reflected_noise_has_the_kernel_as_its_law(sigma):
    torch.manual_seed(0)
    x = reflected(0.3 + sigma * torch.randn(100_000, dtype=torch.float64))
    assert ((x >= 0) & (x <= 1)).all()
    found = torch.histc(x, 10, 0, 1) / len(x)
    places = torch.linspace(0, 1, 1001, dtype=torch.float64)
    middle = (places[1:] + places[:-1]) / 2
    expected = density(middle, torch.full_like(middle, 0.3), sigma).view(10, 100).mean(1) / 10
    torch.testing.assert_close(found, expected, atol=0.004, rtol=0)


def test_no_score_crosses_a_face():
    edges = torch.tensor([0.0, 1.0], dtype=torch.float64)
    for sigma in (0.1, 0.7):
        score = kernel_score(edges, torch.full_like(edges, 0.4), torch.full_like(edges, sigma))
        torch.testing.assert_close(score, torch.zeros_like(score), atol=1e-9, rtol=0)


def test_likelihood_is_that_of_the_points_at_the_smallest_noise():
    model = method(Exact(0.15, 3.0), low=0.15, high=3.0, likelihood_steps=24)
    torch.manual_seed(0)
    x = reflected(POINTS[torch.multinomial(WEIGHTS, 40, replacement=True)] + 0.15 * torch.randn(40, 2).double())
    expected = mixture(x, 0.15) - 2 * math.log(4)
    torch.testing.assert_close(model.log_prob(4 * x - 2), expected, atol=5e-3, rtol=0)


@pytest.mark.parametrize("sampler", ["sde", "ode"])
def test_draws_lie_in_the_box_in_the_shares_of_the_points(sampler):
    model = method(Exact(0.1, 3.0), low=0.1, high=3.0, sampler=sampler, steps=40)
    torch.manual_seed(0)
    draws = model.sample(1000)
    assert ((draws >= -2) & (draws <= 2)).all()
    near, which = torch.cdist(draws, 4 * POINTS - 2).min(1)
    assert (near < 0.5).double().mean() > 0.97
    torch.testing.assert_close(which.bincount().double() / 1000, WEIGHTS, atol=0.06, rtol=0)


def test_of_uniform_records_the_likelihood_is_that_of_the_box():
    model = method(Even())
    torch.testing.assert_close(model.log_prob(torch.rand(5, 2).double()), torch.full((5,), -2 * math.log(4)).double())


def test_the_exact_score_minimises_the_loss():
    model = method(Exact(0.1, 3.0), low=0.1, high=3.0)
    torch.manual_seed(0)
    slopes = []
    for _ in range(20):
        x = 4 * POINTS[torch.multinomial(WEIGHTS, 300, replacement=True)] - 2
        slopes.append(torch.autograd.grad(model.loss(Unlabelled(x)), model.net.nothing)[0])
    slopes = torch.stack(slopes)
    assert slopes.mean().abs() < 4 * slopes.std() / len(slopes) ** 0.5


def test_data_without_a_box_are_refused():
    with pytest.raises(UserError, match="no bounds"):
        method(Even(), DataSpec(name="plane", kind="vector", shape=(2,), sizes={"train": 10}))
    with pytest.raises(UserError, match="sampler"):
        method(Even(), sampler="both")

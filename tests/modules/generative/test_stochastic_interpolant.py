"""Stochastic interpolants against the closed forms of a Gaussian."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.likelihood import divergence, mixed, signs_of
from modules.generative.stochastic_interpolant import GAMMAS, PATHS, StochasticInterpolant

MEAN, STD = 1.5, 0.4
SPEC = DataSpec(name="gaussian", kind="vector", shape=(2,))
PAIRS = [(path, gamma) for path in PATHS for gamma in GAMMAS]


class ExactFields(nn.Module):
    """The minimisers of both regressions for x0 ~ N(0, I) and x1 ~ N(MEAN, STD^2 I), from Gaussian conditioning."""

    def __init__(self, path: str, gamma: str) -> None:
        super().__init__()
        self.alpha, self.beta = PATHS[path]
        self.gamma, self.one_sided = GAMMAS[gamma], gamma == "none"
        self.anchor = nn.Parameter(torch.zeros((), dtype=torch.float64))  # gives the method a dtype to sample in

    def forward(self, x, t):
        t = t[:, None]
        a, da, b, db, g = (
            self.alpha.value(t),
            self.alpha.derivative(t),
            self.beta.value(t),
            self.beta.derivative(t),
            self.gamma.value(t),
        )
        pull = (x - b * MEAN) / (a**2 + b**2 * STD**2 + g**2)
        x0, x1 = a * pull, MEAN + b * STD**2 * pull
        return torch.cat([da * x0 + db * x1, a * pull if self.one_sided else g * pull], dim=1)


def exact(path="linear", gamma="none", **arguments):
    return StochasticInterpolant(SPEC, path, gamma, net=ExactFields(path, gamma), margin=1e-4, **arguments).double()


@pytest.mark.parametrize(("path", "gamma"), PAIRS)
def test_likelihood_of_the_exact_fields_is_the_gaussians(path, gamma):
    method = exact(path, gamma, likelihood_steps=400, solver="midpoint")
    x = torch.linspace(-0.5, 3.5, 14, dtype=torch.float64).view(-1, 2)
    expected = torch.distributions.Normal(MEAN, STD).log_prob(x).sum(1)
    torch.testing.assert_close(method.log_prob(x), expected, atol=2e-2, rtol=5e-3)


@pytest.mark.parametrize(("path", "gamma"), PAIRS)
def test_score_is_the_gradient_of_the_marginal(path, gamma):
    method = exact(path, gamma)
    t, x = torch.tensor([0.2, 0.5, 0.9]).double(), torch.randn(3, 2).double()
    a, b, g = (f.value(t)[:, None] for f in (*PATHS[path], GAMMAS[gamma]))
    expected = -(x - b * MEAN) / (a**2 + b**2 * STD**2 + g**2)
    torch.testing.assert_close(method.score(t, x), expected)


@pytest.mark.parametrize(("path", "gamma"), PAIRS)
def test_denoiser_is_the_posterior_mean(path, gamma):
    method = exact(path, gamma)
    t, x = torch.tensor([0.2, 0.5, 0.9]).double(), torch.randn(3, 2).double()
    a, b, g = (f.value(t)[:, None] for f in (*PATHS[path], GAMMAS[gamma]))
    expected = MEAN + b * STD**2 * (x - b * MEAN) / (a**2 + b**2 * STD**2 + g**2)
    torch.testing.assert_close(method.denoise(x, t), expected, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 3.0])
@pytest.mark.parametrize(
    ("path", "gamma"), [("linear", "none"), ("trigonometric", "none"), ("linear", "sine"), ("linear", "quadratic")]
)
def test_every_noise_level_samples_the_same_gaussian(path, gamma, epsilon):
    torch.manual_seed(0)
    method = exact(path, gamma, sampler="sde", epsilon=epsilon, steps=250)
    x = method.sample(4000)
    error = 4 * STD / math.sqrt(4000)  # four standard errors of the mean, and as much for the discretisation
    torch.testing.assert_close(x.mean(0), torch.full((2,), MEAN).double(), atol=2 * error, rtol=0)
    torch.testing.assert_close(x.std(0), torch.full((2,), STD).double(), atol=2 * error, rtol=0)


@pytest.mark.parametrize("path", list(PATHS))
@pytest.mark.parametrize("gamma", list(GAMMAS))
def test_derivatives_are_derivatives(path, gamma):
    t = torch.linspace(0.05, 0.95, 19, dtype=torch.float64, requires_grad=True)
    for function in (*PATHS[path], GAMMAS[gamma]):
        (slope,) = torch.autograd.grad((function.value(t) + 0 * t).sum(), t)
        torch.testing.assert_close(function.derivative(t), slope)


@pytest.mark.parametrize("gamma", ["none", "brownian"])
def test_exact_fields_minimise_the_loss(gamma):
    """A shift d of a field costs d^2 / 2 and nothing else: the error of the minimiser is orthogonal to it."""
    method = exact("linear", gamma)
    data = MEAN + STD * torch.randn(200_000, 2).double()
    shift = 0.3

    def losses(offset):
        torch.manual_seed(1)
        field = method.fields
        method.fields = lambda t, x: tuple(part + offset for part in field(t, x))
        terms = method.loss(Unlabelled(data))
        method.fields = field
        return torch.stack([terms["velocity"], terms["denoiser"]])

    torch.testing.assert_close(losses(shift) - losses(0.0), torch.full((2,), shift**2 / 2).double(), atol=3e-3, rtol=0)


def test_divergence_is_the_trace_of_the_jacobian():
    net = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 6)).double()
    x = torch.randn(5, 6).double()
    jacobian = torch.func.vmap(torch.func.jacrev(net))(x)
    trace = jacobian.diagonal(dim1=1, dim2=2).sum(1)
    value, found = divergence(net, x, None)
    torch.testing.assert_close(found, trace)
    torch.testing.assert_close(value, net(x))
    signs = torch.tensor([[1.0 if bits >> k & 1 else -1.0 for k in range(6)] for bits in range(64)]).double()
    estimates = torch.stack([divergence(net, x, probe.expand(5, 6))[1] for probe in signs])
    torch.testing.assert_close(estimates.mean(0), trace)  # over all 64 probes the estimator's mean is exact


def test_splitmix_gives_its_published_sequence():
    """The first outputs of splitmix64 from seed 1234567, from its reference implementation."""
    golden = -7046029254386353131
    state = torch.tensor(1234567) + golden * torch.arange(1, 4)
    unsigned = [int(value) % 2**64 for value in mixed(state)]
    assert unsigned == [6457827717110365317, 3203168211198807973, 9817491932198370423]


def test_signs_belong_to_the_record_and_are_uncorrelated():
    x = torch.randn(20_000, 12, generator=torch.Generator().manual_seed(0))
    signs = signs_of(x)
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    second_moment = signs.T @ signs / len(x)
    torch.testing.assert_close(second_moment, torch.eye(12), atol=5 / len(x) ** 0.5, rtol=0)
    torch.testing.assert_close(signs.mean(0), torch.zeros(12), atol=5 / len(x) ** 0.5, rtol=0)
    assert torch.equal(signs_of(x[5:7]), signs[5:7])


def test_another_base_needs_latent_noise():
    with pytest.raises(UserError, match="must be Gaussian"):
        StochasticInterpolant(
            SPEC, gamma="none", base={"_target_": "datamodules.sources.densities.Ring"}, net=nn.Identity()
        )


def test_unknown_choices_are_named():
    with pytest.raises(UserError, match=r"model\.path=cubic"):
        StochasticInterpolant(SPEC, path="cubic", net=nn.Identity())
    with pytest.raises(UserError, match="at least 0"):
        StochasticInterpolant(SPEC, epsilon=-1.0, net=nn.Identity())

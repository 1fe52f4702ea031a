"""PFGM++, against the field of point charges and scipy's laws."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import nn

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.likelihood import log_prob
from modules.generative.gaussian.poisson import PoissonFlow
from modules.generative.gaussian.targets import target_of, value_of
from tests.modules.generative.exact import configured

CHARGES = torch.tensor([[1.0, 0.5], [-1.0, 0.0], [0.0, -2.0]], dtype=torch.float64)
WEIGHTS = torch.tensor([0.6, 0.3, 0.1], dtype=torch.float64)


def kernels(x, t, extra):
    """Log of weight and p_r(x | y) of each charge (B, K), up to a constant of the row: the paper's equation 3."""
    squares = (x[:, None] - CHARGES).square().sum(2) + extra * t.square()[:, None]
    return WEIGHTS.log() - (CHARGES.shape[1] + extra) / 2 * squares.log()


def field(path: PoissonFlow) -> Field:
    return Field(path, lambda x, t: kernels(x, t, path.extra).softmax(1) @ CHARGES)


@pytest.mark.parametrize("extra", [1.0, 7.0, 500.0])
def test_the_noise_has_the_papers_radius(extra):
    """R^2 / r^2 = b / (1 - b) with b ~ Beta(N / 2, D / 2), which is a beta prime law."""
    torch.manual_seed(0)
    noise = PoissonFlow(extra).noise(torch.empty(4000, 3, dtype=torch.float64))
    squares = noise.square().sum(1) / extra
    assert stats.kstest(squares.numpy(), stats.betaprime(1.5, extra / 2).cdf).pvalue > 0.01
    angle = noise[:, 0] / noise.norm(dim=1)  # of a direction in three dimensions each component is uniform
    assert stats.kstest(angle.numpy(), stats.uniform(-1, 2).cdf).pvalue > 0.01


def test_its_density_is_students_and_in_the_limit_the_normal_one():
    x = torch.randn(20, 1, 3, dtype=torch.float64)
    found = PoissonFlow(5.0).log_noise(x)
    expected = stats.multivariate_t(shape=torch.eye(3).numpy(), df=5).logpdf(x.flatten(1).numpy())
    torch.testing.assert_close(found, torch.as_tensor(expected))
    torch.testing.assert_close(PoissonFlow(1e9).log_noise(x), configured("path", "edm").log_noise(x), atol=1e-6, rtol=0)


def test_with_infinitely_many_dimensions_the_same_random_numbers_are_edms_noise():
    noises = []
    for path in (PoissonFlow(1e10), configured("path", "edm")):
        torch.manual_seed(1)
        noises.append(path.noise(torch.empty(500, 2, dtype=torch.float64)))
    torch.testing.assert_close(noises[0], noises[1], rtol=1e-3, atol=0)


@pytest.mark.parametrize("extra", [1.0, 30.0])
def test_the_flow_carries_the_law_of_charges(extra):
    """The flow's density is that of charges seen through their kernels, for every D: the prior, the noise, dx / dt."""
    path = PoissonFlow(extra, low=0.4, high=4000.0)
    t = torch.full((60,), path.start, dtype=torch.float64)
    torch.manual_seed(0)
    data = CHARGES[torch.multinomial(WEIGHTS, len(t), replacement=True)]
    x = data + path.start * path.noise(data)
    offsets = (x[:, None] - CHARGES) / path.start
    each = path.log_noise(offsets.flatten(0, 1)).view(len(t), -1) - 2 * math.log(path.start)
    torch.testing.assert_close(
        log_prob(field(path), x, steps=60), (WEIGHTS.log() + each).logsumexp(1), atol=2e-3, rtol=0
    )


def test_draws_are_the_charges_in_their_shares():
    path = PoissonFlow(3.0)
    torch.manual_seed(0)
    known = field(path)
    times = configured("timesteps", "edm", steps=60).times(path)
    draws = configured("sampler", "heun").sample(known, known.prior(4000, (2,), CHARGES), times)
    near, which = torch.cdist(draws, CHARGES).min(1)
    assert (near < 0.01).double().mean() > 0.98
    torch.testing.assert_close(which.bincount().double() / 4000, WEIGHTS, atol=0.03, rtol=0)


class Exact(nn.Module):
    """The network whose denoiser is the field of the charges, and a parameter that shifts its output."""

    def __init__(self, path):
        super().__init__()
        self.path, self.shift = path, nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, x, t):
        path = self.path
        t = (math.log(path.start) + t * math.log(path.end / path.start)).exp()  # inverse of `conditioning`
        x = x * (0.25 + t.square()).sqrt()[:, None]
        data = field(path).denoiser(x, t)
        return value_of(data, x, t, target_of("edm", path, t, 0.5), path) + self.shift


def test_the_mean_charge_minimises_the_loss():
    """At a shift of 0 the gradient is zero in the mean; Gaussian noise would give another one."""
    slopes = {}
    for name in ("pfgm", "edm"):
        more = ["path=pfgm", "model.path.extra=1"] if name == "pfgm" else ["path=edm"]
        choices = ["model=generative/diffusion", *more, "model.target=edm", "model.weighting=edm"]
        values = compose(choices).values["model"]
        values |= {"times": "lognormal", "net": Exact(PoissonFlow(1.0))}
        spec = DataSpec(name="charges", kind="vector", shape=(2,), sizes={"train": 10})
        method = Diffusion(spec, **{key: value for key, value in values.items() if key != "_target_"}).double()
        torch.manual_seed(0)
        parts = []
        for _ in range(20):
            x = CHARGES[torch.multinomial(WEIGHTS, 5000, replacement=True)]
            parts.append(torch.autograd.grad(method.loss(Unlabelled(x)), method.net.shift)[0])
        parts = torch.stack(parts)
        slopes[name] = (parts.mean() / parts.std() * len(parts) ** 0.5).abs()
    assert slopes["pfgm"] < 3.5
    assert slopes["edm"] > 5


def test_no_extra_dimension_is_refused():
    with pytest.raises(UserError, match="extra"):
        PoissonFlow(0.0)

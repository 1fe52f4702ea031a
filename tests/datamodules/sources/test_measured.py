"""The law given a measurement: Bayes' rule by hand in one dimension, and by quadrature in the plane."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.measured import CorrelatedMixture, Measured

GAUSSIANS = "datamodules.sources.densities.Gaussians"
PLANE = {"_target_": GAUSSIANS, "means": [[1.0, 0.0], [-1.0, 2.0]], "std": [0.5, 0.8], "weights": [0.3, 0.7]}


def test_a_gaussian_and_a_measurement_by_hand():
    """N(1, 4) and y = 2 x + e with e ~ N(0, 1), y = 5: precision 1/4 + 4, mean (1/4 + 10) / (1/4 + 4)."""
    source = {"_target_": GAUSSIANS, "means": [[1.0]], "std": 2.0}
    law = Measured(source, [[2.0]], [5.0], noise=1.0).law()
    assert float(law.covariances[0, 0, 0]) == pytest.approx(4 / 17)
    assert float(law.means[0, 0]) == pytest.approx(41 / 17)


def test_the_law_is_bayes_rule():
    """ln p(x | y) = ln p(x) + ln N(y; A x, noise^2) - ln p(y), by the same constant everywhere, and in all one."""
    measured = Measured(PLANE, [[1.0, 0.5]], [0.7], noise=0.4)
    law, prior = measured.law(), measured.prior()
    ticks = torch.linspace(-6, 6, 400, dtype=torch.float64)
    x = torch.cartesian_prod(ticks, ticks)
    joint = prior.log_prob(x) - (0.7 - x @ torch.tensor([1.0, 0.5]).double()).square() / (2 * 0.16)
    log_prob = law.log_prob(x)
    assert float((joint - log_prob).max() - (joint - log_prob).min()) < 1e-8
    assert float(log_prob.exp().sum() * (ticks[1] - ticks[0]) ** 2) == pytest.approx(1, abs=1e-6)


def test_draws_and_score_are_the_laws():
    law = Measured(PLANE, [[1.0, 0.5]], [0.7], noise=0.4).law()
    x = law.sample(100_000, torch.Generator().manual_seed(0)).double()
    mean = law.weights @ law.means
    offset = law.means - mean
    covariance = torch.einsum("k,kij->ij", law.weights, law.covariances + offset[:, :, None] * offset[:, None])
    torch.testing.assert_close(x.mean(0), mean, rtol=0, atol=0.02)
    torch.testing.assert_close(x.T.cov(), covariance, rtol=0, atol=0.02)
    at = x[:10].clone().requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(at).sum(), at)
    torch.testing.assert_close(law.score(x[:10]), gradient)


def test_one_component_is_torchs_multivariate_normal():
    covariance = torch.tensor([[2.0, 0.6], [0.6, 0.5]]).double()
    law = CorrelatedMixture(torch.tensor([[1.0, -1.0]]), covariance[None], torch.ones(1))
    x = torch.randn(5, 2).double()
    expected = torch.distributions.MultivariateNormal(torch.tensor([1.0, -1.0]).double(), covariance).log_prob(x)
    torch.testing.assert_close(law.log_prob(x), expected)


def test_a_measurement_of_a_record_that_was_drawn():
    measured = Measured(PLANE, [[1.0, 0.0], [0.0, 1.0]], noise=0.01)
    y = measured.measurement(measured.prior())
    assert torch.equal(y, measured.measurement(measured.prior()))
    torch.testing.assert_close(measured.law().weights @ measured.law().means, y, rtol=0, atol=0.02)
    assert math.isfinite(float(measured.load().truth.log_prob(torch.zeros(1, 2))))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"noise": 0.0}, "noise=0"),
        ({"operator": [[1.0]]}, "operator has 1 columns"),
        ({"measurement": [1.0, 2.0]}, "measurement has 2 numbers"),
        ({"source": {"_target_": "datamodules.sources.densities.Checkerboard"}}, "no law that is a mixture"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(UserError, match=message):
        Measured(**{"source": PLANE, "operator": [[1.0, 0.0]], **changes}).law()

"""The nearest-neighbour divergence against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from torch.distributions import MultivariateNormal, Normal, kl_divergence

from callbacks.metrics.divergences import knn_kl
from compendium.seeding import seeded


@pytest.mark.parametrize(("dimensions", "tolerance"), [(1, 0.03), (2, 0.04), (3, 0.06)])
def test_gaussians_against_the_closed_form(dimensions, tolerance):
    with seeded(0, "divergence", dimensions):
        p = MultivariateNormal(torch.zeros(dimensions), torch.eye(dimensions))
        q = MultivariateNormal(torch.full((dimensions,), 0.5), 1.5 * torch.eye(dimensions))
        estimate = knn_kl(p.sample((20_000,)), q.sample((20_000,)))
    assert float(estimate) == pytest.approx(float(kl_divergence(p, q)), abs=tolerance)


def test_the_same_law_has_no_divergence():
    with seeded(1, "divergence"):
        law = Normal(torch.zeros(2), torch.ones(2))
        estimate = knn_kl(law.sample((10_000,)), law.sample((10_000,)))
    assert abs(float(estimate)) < 0.03


def test_four_points_by_hand():
    p = torch.tensor([[0.0], [1.0], [3.0]])
    q = torch.tensor([[0.5], [5.0]])
    # Nearest among the other p: 1, 1, 2; among the q: 0.5, 0.5, 2. D = 1, M / (N - 1) = 1.
    expected = (math.log(0.5) + math.log(0.5) + math.log(1.0)) / 3
    assert float(knn_kl(p, q, k=1)) == pytest.approx(expected, abs=1e-12)


def test_scale_does_not_matter():
    with seeded(2, "divergence"):
        p, q = torch.randn(500, 2, dtype=torch.float64), 2 * torch.randn(400, 2, dtype=torch.float64)
    assert float(knn_kl(1e-6 * p, 1e-6 * q)) == pytest.approx(float(knn_kl(p, q)), abs=1e-9)


@pytest.mark.parametrize("bad", [torch.full((10, 2), math.nan), torch.zeros(3, 2)])
def test_nothing_to_estimate_is_nan(bad):
    assert math.isnan(knn_kl(torch.randn(10, 2), bad))


def test_coinciding_points_are_finite():
    assert math.isfinite(knn_kl(torch.zeros(20, 2), torch.zeros(20, 2)))

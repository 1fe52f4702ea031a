"""Smoothing against closed forms, bounds of means against their guarantee."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import norm

from modules.uncertainty.smoothing import mean_bounds, shifted


def test_the_bound_is_reached_by_a_half_space():
    """g(x) = E 1[w (x + e) > b] = Phi((w x - b) / (sigma |w|)): a step of the radius along w reaches the bound."""
    sigma, radius = 0.7, 0.4
    margins = torch.linspace(-2, 2, 9, dtype=torch.float64)
    g = torch.as_tensor(norm.cdf(margins / sigma))
    for sign in (1, -1):
        expected = torch.as_tensor(norm.cdf((margins + sign * radius) / sigma))
        torch.testing.assert_close(shifted(g, sign * radius / sigma), expected, rtol=1e-9, atol=1e-12)


def test_a_rounded_one_is_not_sure():
    one, zero = torch.ones(1).double(), torch.zeros(1).double()
    assert shifted(one, -1.0) == pytest.approx(norm.cdf(norm.ppf(1 - 1e-6) - 1))
    assert shifted(zero, 1.0) == pytest.approx(norm.cdf(norm.ppf(1e-6) + 1))
    assert shifted(one, 0.0) == 1
    assert shifted(one, 1.0) == 1


@pytest.mark.parametrize("p", [0.02, 0.5, 0.97])
def test_bounds_of_means_fail_seldom_enough(p):
    """20,000 means of 50 coins, which are the hardest draws in [0, 1] to bound."""
    draw = torch.Generator().manual_seed(0)
    means = torch.bernoulli(torch.full((20_000, 50), p).double(), generator=draw).mean(1)
    low, high = mean_bounds(means, 50, 0.1)
    missed = float(((low > p) | (high < p)).double().mean())
    assert missed <= 0.1
    # Hoeffding's simpler bound is wider away from one half.
    assert float((high - low).mean()) < 2 * math.sqrt(0.5 * math.log(2 / 0.1) / 50)


def test_bounds_of_means_at_the_ends():
    mean = torch.tensor([0.0, 1.0, 0.3], dtype=torch.float64)
    low, high = mean_bounds(mean, 100, 0.05)
    allowed = math.log(2 / 0.05) / 100
    # KL(0, g) = -ln(1 - g)
    assert float(high[0]) == pytest.approx(1 - math.exp(-allowed), rel=1e-6)
    assert float(low[1]) == pytest.approx(math.exp(-allowed), rel=1e-6)
    assert low[0] == 0
    assert high[1] == 1
    assert all(torch.equal(bound, mean) for bound in mean_bounds(mean, 100, 0.0))

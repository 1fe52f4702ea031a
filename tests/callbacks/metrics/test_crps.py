"""CRPS against properscoring, numerical integration and closed forms by hand."""

from __future__ import annotations

import math

import numpy as np
import properscoring
import pytest
import torch
from torch import distributions

from callbacks.metrics.crps import crps, crps_draws, crps_normal, crps_normal_mixture

DRAW = torch.Generator().manual_seed(0)
MEAN, Y = (3 * torch.randn(50, dtype=torch.float64, generator=DRAW) for _ in range(2))
STD = 0.1 + torch.rand(50, dtype=torch.float64, generator=DRAW)


def test_normal_equals_properscoring():
    expected = properscoring.crps_gaussian(Y.numpy(), MEAN.numpy(), STD.numpy())
    assert crps(distributions.Normal(MEAN, STD), Y).numpy() == pytest.approx(expected, abs=1e-12)


def test_normal_by_hand():
    # At y = m: s (2 phi(0) - 1 / sqrt(pi)) = s (sqrt(2) - 1) / sqrt(pi). Far away: |y - m| - s / sqrt(pi).
    zero, two = torch.zeros((), dtype=torch.float64), torch.tensor(2.0, dtype=torch.float64)
    assert crps_normal(zero, two, zero).item() == pytest.approx(2 * (math.sqrt(2) - 1) / math.sqrt(math.pi), abs=1e-15)
    assert crps_normal(zero, two, zero + 1e9).item() == pytest.approx(1e9 - 2 / math.sqrt(math.pi), rel=1e-15)


def test_mixture_equals_the_integral_that_defines_it():
    weights = torch.tensor([[0.2, 0.5, 0.3]], dtype=torch.float64)
    means = torch.tensor([[-2.0, 0.5, 3.0]], dtype=torch.float64)
    stds = torch.tensor([[0.3, 1.0, 0.7]], dtype=torch.float64)
    y = torch.tensor([1.3], dtype=torch.float64)
    z = torch.linspace(-15, 15, 300_001, dtype=torch.float64)
    cdf = (weights * distributions.Normal(means, stds).cdf(z[:, None])).sum(1)
    integral = torch.trapezoid((cdf - (z >= y).double()).square(), z)
    law = distributions.MixtureSameFamily(distributions.Categorical(weights), distributions.Normal(means, stds))
    assert crps(law, y).item() == pytest.approx(integral.item(), abs=1e-4)
    assert crps_normal_mixture(weights, means, stds, y).item() == pytest.approx(integral.item(), abs=1e-4)


def test_mixture_of_equal_normals_is_the_normal():
    weights = torch.full((50, 4), 0.25, dtype=torch.float64)
    mixed = crps_normal_mixture(weights, MEAN[:, None].expand(-1, 4), STD[:, None].expand(-1, 4), Y)
    torch.testing.assert_close(mixed, crps_normal(MEAN, STD, Y), rtol=0, atol=1e-12)


def test_draws_are_the_ensemble_score_with_the_pairs_counted_fairly():
    draws = torch.randn(9, 50, dtype=torch.float64, generator=DRAW)
    to_y = np.abs(draws.numpy() - Y.numpy()).mean(0)
    biased = properscoring.crps_ensemble(Y.numpy(), draws.T.numpy())
    fair = to_y - (to_y - biased) * 9 / 8
    assert crps_draws(draws, Y).numpy() == pytest.approx(fair, abs=1e-12)


def test_draws_are_unbiased_for_a_law_without_closed_form():
    # Laplace(0, 1): |y| + exp(-|y|) - 3/4 (Jordan et al. 2019).
    torch.manual_seed(0)
    y = torch.full((4000,), 0.7)
    estimate = crps(distributions.Laplace(torch.zeros(4000), 1.0), y, draws=8)
    error = estimate.mean().item() - (0.7 + math.exp(-0.7) - 0.75)
    assert abs(error) < 4 * estimate.std().item() / math.sqrt(4000)

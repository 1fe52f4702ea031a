"""Calibration errors against integration, closed forms, the authors' package and torchmetrics."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from relplot.metrics import smECE, smECE_sigma
from scipy.integrate import quad
from torchmetrics.functional.classification import binary_calibration_error

from callbacks.metrics.calibration import FLOOR, binned_ece, moments, reliability, smooth_ece, smoothed


def drawn(n, seed=0, power=1.3):
    """Forecasts and outcomes with P(y = 1 | p) = p^power."""
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(n, generator=draw, dtype=torch.float64)
    return p, (torch.rand(n, generator=draw, dtype=torch.float64) < p**power).double()


def kernel(t, p, s):
    """The reflected Gaussian as its definition has it: a sum over mirror images."""
    near = torch.arange(-6, 7, dtype=torch.float64) * 2
    images = torch.cat([near + p[:, None], near - p[:, None]], 1)
    return torch.exp(-0.5 * ((t - images) / s) ** 2).sum(1) / (s * math.sqrt(2 * math.pi))


def integrated(p, y, s):
    """smECE_s by adaptive quadrature."""
    breaks = torch.linspace(0, 1, 41).tolist()

    def height(t):
        return abs(float((kernel(t, p, s) * (y - p)).mean()))

    return sum(quad(height, a, b, limit=200)[0] for a, b in pairwise(breaks))


@pytest.mark.parametrize("bandwidth", [0.02, 0.1, 0.7])
def test_smooth_ece_is_its_integral(bandwidth):
    p, y = drawn(60)
    p[:3] = torch.tensor([0.0, 1.0, 0.5])
    assert smooth_ece(p, y, bandwidth) == pytest.approx(integrated(p, y, bandwidth), abs=1e-6)


def test_its_bandwidth_is_its_value():
    p, y = drawn(400)
    value = smooth_ece(p, y)
    assert FLOOR < value < 1
    assert smooth_ece(p, y, value) == pytest.approx(value, abs=1e-8)
    finer, coarser = smooth_ece(p, y, value / 2), smooth_ece(p, y, 2 * value)
    assert finer > value > coarser


CONSTANT = [([0.5] * 9, [1] * 9, 0.5), ([0.0] * 9, [1] * 9, 1.0), ([1.0] * 9, [1] * 9, 0.0), ([0.3], [0], 0.3)]
CANCELS = [([0.5] * 8, [0, 1] * 4, 0.0), ([0.0, 1.0, 0.5, 0.5], [0, 1, 0, 1], 0.0), ([0.25] * 4, [0, 0, 0, 1], 0.0)]


@pytest.mark.parametrize(("p", "y", "value"), CONSTANT + CANCELS)
def test_residuals_of_one_sign_add_up_and_ties_cancel(p, y, value):
    p, y = torch.tensor(p, dtype=torch.float64), torch.tensor(y)
    assert smooth_ece(p, y) == pytest.approx(value, abs=1e-8)
    # The package adds 1e-4 to the density and rounds to a grid of 200 points or more.
    assert smooth_ece(p, y) == pytest.approx(smECE(p.numpy(), y.numpy()), abs=2e-4)


@pytest.mark.parametrize(("n", "power"), [(1, 1.3), (2, 1.3), (300, 1.0), (300, 0.3), (20_000, 1.0), (20_000, 2.0)])
def test_agrees_with_the_authors_package(n, power):
    p, y = drawn(n, seed=n, power=power)
    # Its bisection stops at steps of 1 / 1024, and its sum over the grid leaves out the ends' weights.
    assert smooth_ece(p, y) == pytest.approx(smECE(p.numpy(), y.numpy()), abs=1.5e-3)
    assert smooth_ece(p, y, 0.1) == pytest.approx(smECE_sigma(p.numpy(), y.numpy(), 0.1), abs=5e-4, rel=5e-3)


@pytest.mark.parametrize("shift", [1e-4, 1e-3, 1e-2])
def test_moving_forecasts_moves_it_no_more_than_the_bound(shift):
    draw = torch.Generator().manual_seed(1)
    y = torch.randint(2, (2000,), generator=draw).double()
    half = torch.full_like(y, 0.5)
    moved = half + shift * (2 * y - 1)
    gap = abs(smooth_ece(moved, y) - smooth_ece(half, y))
    assert gap <= shift + math.sqrt(math.sqrt(2 / math.pi) * shift)
    assert binned_ece(moved, y, 10) == pytest.approx(0.5 - shift, abs=1e-12)  # while the binned one jumps
    assert binned_ece(half, y, 10) < 0.05


def test_the_kernel_is_the_reflected_gaussian():
    p, values = drawn(50)
    for bandwidth in (0.003, 0.05, 1.0):
        got = smoothed(moments(p, values, bandwidth), bandwidth, 64)
        want = torch.stack([(kernel(i / 64, p, bandwidth) * values).mean() for i in range(65)])
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_the_diagram_encodes_the_error_and_the_density():
    p, y = drawn(500)
    result = reliability(p, y, points=4096)
    assert result.error == smooth_ece(p, y) == result.bandwidth
    weighted = (result.curve - result.t).abs() * result.density
    assert float(torch.trapezoid(weighted, result.t)) == pytest.approx(result.error, abs=1e-6)
    assert float(torch.trapezoid(result.density, result.t)) == pytest.approx(1, abs=1e-9)
    by_hand = kernel(0.25, p, result.bandwidth)
    at = 0.25 + float((by_hand * (y - p)).sum() / by_hand.sum())
    assert float(result.curve[1024]) == pytest.approx(at, abs=1e-9)


def test_the_diagram_knows_nothing_where_there_are_no_forecasts():
    p = torch.tensor([0.1] * 50 + [0.9] * 50, dtype=torch.float64)
    y = torch.cat([torch.arange(50) < 5, torch.arange(50) < 45]).double()
    result = reliability(p, y)
    assert result.error < 1e-9
    torch.testing.assert_close(result.curve, result.t, atol=1e-5, rtol=0)


def test_binned_by_hand_and_by_torchmetrics():
    p = torch.tensor([0.1, 0.2, 0.5, 0.5, 0.9, 1.0], dtype=torch.float64)
    y = torch.tensor([0, 1, 1, 0, 1, 1])
    # (0, 1/2]: 2 of 4 came true, 1.3 expected; (1/2, 1]: 2 of 2, 1.9 expected.
    assert binned_ece(p, y, 2) == pytest.approx((0.7 + 0.1) / 6)
    # Thirds of the records, where the tie stays together: {0.1, 0.2}, {0.5, 0.5}, {0.9, 1.0}.
    assert binned_ece(p, y, 3, equal_mass=True) == pytest.approx((0.7 + 0.0 + 0.1) / 6)
    for bins in (7, 15):
        p, y = drawn(1000)
        theirs = binary_calibration_error(p, y.long(), n_bins=bins)
        assert binned_ece(p, y, bins) == pytest.approx(float(theirs), abs=1e-6)


def test_equal_mass_does_not_depend_on_the_order():
    p = torch.tensor([0.2] * 5 + [0.7] * 5, dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 1, 0, 1, 1, 1, 1])
    order = torch.randperm(10, generator=torch.Generator().manual_seed(0))
    assert binned_ece(p, y, 4, True) == binned_ece(p[order], y[order], 4, True) == pytest.approx((2.0 + 0.5) / 10)


def test_nothing_and_nan_are_nan():
    empty, broken = torch.empty(0), torch.tensor([0.5, math.nan])
    for p in (empty, broken):
        assert math.isnan(smooth_ece(p, torch.ones_like(p)))
        assert math.isnan(binned_ece(p, torch.ones_like(p)))
    with pytest.raises(ValueError, match="bandwidth=0"):
        smooth_ece(torch.tensor([0.5]), torch.tensor([1.0]), 0)

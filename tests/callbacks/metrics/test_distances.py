"""Distances against POT, torchmetrics, naive loops and closed forms for Gaussians."""

from __future__ import annotations

import math

import ot
import pytest
import torch
from torchmetrics.image.fid import _compute_fid

from callbacks.metrics.distances import frechet, median_bandwidth, projections, sliced_wasserstein, squared_mmd


def normal(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(("n", "m"), [(40, 40), (40, 60), (7, 11), (1, 5)])
def test_sliced_wasserstein_equals_pot(n, m):
    a, b, directions = normal(n, 3), 1.5 * normal(m, 3, seed=1) + 0.3, projections(3, 20)
    expected = ot.sliced_wasserstein_distance(a.numpy(), b.numpy(), projections=directions.numpy(), p=2)
    assert sliced_wasserstein(a, b, directions).item() == pytest.approx(expected, rel=1e-9)


def test_sliced_wasserstein_of_a_shift_on_the_line_is_the_shift():
    a = normal(100, 1)
    assert sliced_wasserstein(a, a + 2.5, projections(1, 3)).item() == pytest.approx(2.5, abs=1e-12)
    # Each record twice is the same law.
    assert sliced_wasserstein(a, a.repeat(2, 1), projections(1, 3)).item() == pytest.approx(0, abs=1e-12)


def test_projections_are_unit_and_a_function_of_the_seed():
    directions = projections(5, 300)
    torch.testing.assert_close(directions.norm(dim=0), torch.ones(300, dtype=torch.float64))
    assert torch.equal(directions, projections(5, 300))
    assert not torch.equal(directions, projections(5, 300, seed=1))


def test_mmd_equals_the_double_loop():
    a, b, h = normal(8, 3), normal(6, 3, seed=1) + 0.5, 1.3

    def kernel(x, y):
        return math.exp(-float((x - y).square().sum()) / (2 * h**2))

    within_a = sum(kernel(a[i], a[j]) for i in range(8) for j in range(8) if i != j) / 56
    within_b = sum(kernel(b[i], b[j]) for i in range(6) for j in range(6) if i != j) / 30
    between = sum(kernel(x, y) for x in a for y in b) / 48
    assert squared_mmd(a, b, h).item() == pytest.approx(within_a + within_b - 2 * between, abs=1e-12)


def test_mmd_is_unbiased_under_equal_laws_and_right_under_a_shift():
    equal = torch.stack([squared_mmd(normal(30, 2, seed=i), normal(40, 2, seed=1000 + i), 1.0) for i in range(300)])
    assert abs(equal.mean()) < 3 * equal.std() / math.sqrt(300)
    # E k for N(0, s^2 I) differences in D dimensions: (h^2 / (h^2 + s^2))^(D/2) exp(-d^2 / (2 (h^2 + s^2))), s^2 = 2.
    shift = torch.stack([squared_mmd(normal(30, 2, seed=i), normal(40, 2, seed=1000 + i) + 1, 1.0) for i in range(300)])
    expected = 2 / 3 * (1 - math.exp(-2 / 6))
    assert abs(shift.mean() - expected) < 3 * shift.std() / math.sqrt(300)


def test_median_bandwidth_by_hand():
    # Distances between 0, 1, 3: 1, 2, 3.
    assert median_bandwidth(torch.tensor([[0.0], [1.0], [3.0]])).item() == 2
    assert median_bandwidth(torch.zeros(5, 2)).item() == 1


def test_frechet_closed_forms():
    a = normal(500, 4)
    shift = torch.tensor([1.0, -2.0, 0.5, 0.0], dtype=torch.float64)
    assert frechet(a, a).item() == pytest.approx(0, abs=1e-10)
    assert frechet(a, a + shift).item() == pytest.approx(5.25, abs=1e-10)
    # Covariances S and 9 S: (3 - 1)^2 tr S, and (3 - 1)^2 |m|^2 of the means.
    assert frechet(a, 3 * a).item() == pytest.approx(4 * (a.var(0).sum() + a.mean(0).square().sum()).item(), rel=1e-10)


def test_frechet_equals_torchmetrics():
    a, b = normal(200, 5) @ normal(5, 5, seed=2), normal(150, 5, seed=1) + 1
    expected = _compute_fid(a.mean(0), a.T.cov(), b.mean(0), b.T.cov())
    assert frechet(a, b).item() == pytest.approx(expected.item(), rel=1e-8)


def test_frechet_with_fewer_records_than_dimensions():
    a = normal(10, 50)
    assert frechet(a, a + 1).item() == pytest.approx(50, abs=1e-8)
    rotation = torch.linalg.qr(normal(50, 50, seed=3)).Q
    b = normal(12, 50, seed=1)
    assert frechet(a @ rotation, b @ rotation).item() == pytest.approx(frechet(a, b).item(), rel=1e-10)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_records_that_are_not_finite_give_nan(bad):
    a, b = normal(10, 2), normal(10, 2, seed=1)
    b[3, 1] = bad
    for value in (frechet(a, b), squared_mmd(a, b, 1.0), sliced_wasserstein(a, b, projections(2, 5))):
        assert math.isnan(value)

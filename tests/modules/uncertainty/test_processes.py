"""The process of few records against scikit-learn's, and against the formula."""

from __future__ import annotations

import warnings

import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

from modules.uncertainty.processes import Process, covariance, informed, likeliest


def records(count=15):
    draw = torch.Generator().manual_seed(0)
    x = torch.rand(count, 2, generator=draw, dtype=torch.float64) * 3
    noise = 0.1 * torch.randn(count, generator=draw, dtype=torch.float64)
    return x, -40 + 7 * torch.sin(2 * x[:, 0]) * x[:, 1] + noise


def test_moments_are_scikit_learns():
    x, y = records()
    start = ConstantKernel() * RBF(0.3, (1e-3, 1e3)) + WhiteKernel(0.1, (1e-8, 1e2))
    peer = GaussianProcessRegressor(start, normalize_y=True, n_restarts_optimizer=1, random_state=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        peer.fit(x.numpy(), y.numpy())
    found = likeliest(x, y, restarts=1)
    new = torch.rand(30, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 4
    mean, deviation = peer.predict(new.numpy(), return_std=True)
    mu, variance = found.moments(new)
    torch.testing.assert_close(mu, torch.from_numpy(mean), atol=1e-4, rtol=1e-4)
    noise = found.units[1] ** 2 * found.kernel[2]
    torch.testing.assert_close((variance + noise).sqrt(), torch.from_numpy(deviation), atol=1e-4, rtol=1e-4)


def test_moments_are_the_formula():
    """Of records whose kernel is told: mean k^T (K + n^2 I)^-1 y and variance s^2 - k^T (K + n^2 I)^-1 k."""
    x, y = records(6)
    kernel = torch.tensor([2.0, 0.7, 0.05], dtype=torch.float64)
    gram = 2 * torch.exp(-(x[:, None] - x[None]).square().sum(-1) / (2 * 0.7**2)) + 0.05 * torch.eye(6)
    process = Process(x, torch.linalg.solve(gram, y), torch.linalg.cholesky(gram), kernel, torch.tensor([3.0, 2.0]))
    new = x[:2] + 0.3
    across = 2 * torch.exp(-(new[:, None] - x[None]).square().sum(-1) / (2 * 0.7**2))
    torch.testing.assert_close(covariance(kernel, new, x), across)
    mean, variance = process.moments(new)
    torch.testing.assert_close(mean, 3 + 2 * across @ torch.linalg.inv(gram) @ y)
    expected = 2 - torch.einsum("ij,jk,ik->i", across, torch.linalg.inv(gram), across)
    torch.testing.assert_close(variance, 4 * expected)


def test_records_that_are_all_alike():
    x, _ = records(5)
    mean, variance = likeliest(x, torch.full((5,), 2.0, dtype=torch.float64), restarts=0).moments(x)
    torch.testing.assert_close(mean, torch.full((5,), 2.0, dtype=torch.float64))
    assert bool(variance.isfinite().all())


def test_records_that_are_the_same_and_have_no_noise():
    x, y = records(8)
    x, y = torch.cat([x, x]), torch.cat([y, y])
    kernel, units = torch.tensor([4.0, 1.0, 0.0]).double(), torch.tensor([0.0, 1.0]).double()
    mean, variance = informed(x, y, kernel, units).moments(x)
    torch.testing.assert_close(mean, y, atol=1e-3, rtol=1e-3)
    assert float(variance.max()) < 1e-6

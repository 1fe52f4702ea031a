"""Gaussian processes: the likeliest kernel of records, and what the process knows by them."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from torch import Tensor


class Process(NamedTuple):
    """What is known of f(x) by n records, with the kernel s^2 exp(-|x - x'|^2 / (2 l^2)) and noise of variance n^2.

    `x` (n, D); `weights` (n,), (K + n^2 I)^-1 y, and `factor` (n, n), the Cholesky factor of K + n^2 I; `kernel` (3,)
    holds s^2, l and n^2, and `units` (2,) the mean and the spread of the response, in units of which y and the kernel
    are. All float64.
    """

    x: Tensor
    weights: Tensor
    factor: Tensor
    kernel: Tensor
    units: Tensor

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mean and variance of f (B,) each, in the response's own units."""
        mean, variance = self.standard_moments(x)
        return self.units[0] + self.units[1] * mean, self.units[1] ** 2 * variance

    def standard_moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> mean and variance of f (B,) each, in units of the response's spread."""
        across = covariance(self.kernel, x.double(), self.x)
        solved = torch.linalg.solve_triangular(self.factor, across.T, upper=False)
        return across @ self.weights, (self.kernel[0] - solved.square().sum(0)).clamp_min(0)


def standardised(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Responses (n,) -> the same in units of their spread (n,), and their mean and spread."""
    shift, scale = y.mean(), y.std(correction=0).clamp_min(1e-12)
    return (y - shift) / scale, shift, scale


def covariance(kernel: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """s^2, l and n^2 (3,), a (A, D), b (B, D) -> covariance of f (A, B)."""
    return kernel[0] * torch.exp(-torch.cdist(a, b).square() / (2 * kernel[1] ** 2))


def likeliest(x: Tensor, y: Tensor, restarts: int) -> Process:
    """The process whose s, l and n maximise the marginal likelihood of records x (n, D), y (n,), float64.

    By scikit-learn's `GaussianProcessRegressor` from l = 0.3 on, with so many restarts of its optimizer from places
    that do not depend on torch's random state (Rasmussen and Williams 2006, chapter 2).
    """
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.gaussian_process import GaussianProcessRegressor
    from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel

    y, shift, scale = standardised(y)
    start = ConstantKernel() * RBF(0.3, (1e-3, 1e3)) + WhiteKernel(0.1, (1e-8, 1e2))
    fitted = GaussianProcessRegressor(start, n_restarts_optimizer=restarts, random_state=0)
    with warnings.catch_warnings():
        # A response without noise is at a bound, and says so.
        warnings.simplefilter("ignore", ConvergenceWarning)
        found = fitted.fit(x.cpu().numpy(), y.cpu().numpy()).kernel_
    values = [found.k1.k1.constant_value, found.k1.k2.length_scale, found.k2.noise_level]
    kernel = torch.tensor(values, dtype=y.dtype, device=y.device)
    return informed(x, y, kernel, torch.stack([shift, scale]))


def informed(x: Tensor, y: Tensor, kernel: Tensor, units: Tensor) -> Process:
    """The process of a kernel and units by records x (n, D), y (n,) in those units, float64."""
    gram = covariance(kernel, x, x) + kernel[2] * torch.eye(len(y), dtype=x.dtype, device=x.device)
    factor, failed = torch.linalg.cholesky_ex(gram)
    if failed:  # records that are all but the same, without noise: scikit-learn adds as much
        factor = torch.linalg.cholesky(gram + 1e-10 * kernel[0] * torch.eye(len(y), dtype=x.dtype, device=x.device))
    return Process(x, torch.cholesky_solve(y[:, None], factor)[:, 0], factor, kernel, units)

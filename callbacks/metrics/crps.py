"""Continuous ranked probability score: CRPS(F, y) = integral of (F(z) - [z >= y])^2 dz, in the units of y."""

from __future__ import annotations

import math

import torch
from torch import Tensor, distributions

from callbacks.metrics.precision import precise


def crps(law: distributions.Distribution, y: Tensor, draws: int = 256) -> Tensor:
    """CRPS of each record: exact for a Normal and a mixture of Normals, `crps_draws` for any other law.

    Args:
        law: predictive law with batch shape (B,) and scalar events.
        y: what was observed, (B,).
        draws: draws per record where there is no closed form; they come from torch's global random state. The
            estimate is unbiased, with a standard error of about 0.6 standard deviations of the law / sqrt(draws) for
            one record.

    Returns:
        (B,), float64.
    """
    y = precise(y)
    if type(law) is distributions.Normal:
        return crps_normal(precise(law.loc), precise(law.scale), y)
    if type(law) is distributions.MixtureSameFamily and type(law.component_distribution) is distributions.Normal:
        parts = law.component_distribution
        weights = law.mixture_distribution.probs
        return crps_normal_mixture(precise(weights), precise(parts.loc), precise(parts.scale), y)
    return crps_draws(precise(law.sample(torch.Size((draws,)))), y)


def crps_normal(mean: Tensor, std: Tensor, y: Tensor) -> Tensor:
    """s * (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)) with z = (y - m) / s; Gneiting and Raftery 2007, equation 21.

    Args:
        mean, std, y: any shapes that broadcast; `std` above 0.
    """
    return expected_distance(y - mean, std) - std / math.sqrt(math.pi)


def crps_normal_mixture(weights: Tensor, means: Tensor, stds: Tensor, y: Tensor) -> Tensor:
    """E|X - y| - E|X - X'| / 2 with X, X' independent from a mixture of Normals; Grimit et al. 2006, equation 5.

    Args:
        weights: (..., K), summing to 1.
        means: (..., K).
        stds: (..., K), above 0.
        y: (...).

    Returns:
        (...).
    """
    to_y = (weights * expected_distance(y[..., None] - means, stds)).sum(-1)
    pair = weights[..., :, None] * weights[..., None, :]
    spread = (stds[..., :, None].square() + stds[..., None, :].square()).sqrt()
    within = (pair * expected_distance(means[..., :, None] - means[..., None, :], spread)).sum((-2, -1))
    return to_y - within / 2


def crps_draws(draws: Tensor, y: Tensor) -> Tensor:
    """mean_i |x_i - y| - sum_{i,j} |x_i - x_j| / (2 S (S - 1)): unbiased in the S draws (the "fair" estimator).

    Args:
        draws: (S, ...) with S at least 2.
        y: (...).

    Returns:
        (...). It can be slightly negative, as an unbiased estimate of a small number must be.
    """
    count = len(draws)
    ordered = draws.sort(0).values
    # Of S sorted draws, the i-th (from 1) is the larger of i - 1 pairs and the smaller of S - i.
    signs = torch.arange(1 - count, count, 2, dtype=draws.dtype, device=draws.device)
    pairs = torch.tensordot(signs, ordered, dims=1)
    return (draws - y).abs().mean(0) - pairs / (count * (count - 1))


def expected_distance(shift: Tensor, std: Tensor) -> Tensor:
    """E|N(shift, std^2)| = shift (2 Phi(z) - 1) + 2 std phi(z), z = shift / std."""
    z = shift / std
    return shift * torch.erf(z / math.sqrt(2)) + std * math.sqrt(2 / math.pi) * torch.exp(-z.square() / 2)

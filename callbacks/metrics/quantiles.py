"""Quantiles and ranks of predictive laws."""

from __future__ import annotations

import torch
from torch import Tensor, distributions

from callbacks.metrics.precision import precise


def pit(law: distributions.Distribution, y: Tensor, draws: int = 1024) -> Tensor:
    """Probability integral transform F(y): uniform on [0, 1] over records where the law is right.

    Args:
        law: predictive law with batch shape (B,) and scalar events.
        y: what was observed (B,).
        draws: where the law has no cumulative distribution function: F is the share of so many draws that lie below,
            ties by half.

    Returns:
        (B,), float64.
    """
    try:
        return precise(law.cdf(y))
    except NotImplementedError:
        drawn = precise(law.sample(torch.Size((draws,))))
        y = precise(y)
        return ((drawn < y).double() + 0.5 * (drawn == y).double()).mean(0)


def quantile(law: distributions.Distribution, level: float, draws: int = 1024) -> Tensor:
    """The value (B,), float64, that a law stays below with probability `level`.

    By the law's inverse where it has one, by 80 bisections of its cumulative distribution function between mean and
    twenty standard deviations, or else by draws.
    """
    try:
        return precise(law.icdf(torch.tensor(level, dtype=law.mean.dtype, device=law.mean.device)))
    except NotImplementedError:
        pass
    mean, spread = law.mean, 20 * law.stddev
    low, high = mean - spread, mean + spread
    try:
        for _ in range(80):
            middle = (low + high) / 2
            below = law.cdf(middle) < level
            low, high = torch.where(below, middle, low), torch.where(below, high, middle)
        return precise((low + high) / 2)
    except NotImplementedError:
        return precise(law.sample(torch.Size((draws,)))).quantile(level, dim=0)


def interval_score(low: Tensor, high: Tensor, y: Tensor, level: float) -> Tensor:
    """high - low + 2 / (1 - level) times how far y lies outside (B,), in the units of y.

    Gneiting and Raftery 2007, equation 43; least in expectation for the central interval of the right law.
    """
    outside = (low - y).clamp(min=0) + (y - high).clamp(min=0)
    return high - low + 2 / (1 - level) * outside

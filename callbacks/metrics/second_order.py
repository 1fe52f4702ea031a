"""Whether a predicted variance of a probability is what the probability's error is."""

from __future__ import annotations

import torch
from torch import Tensor


def second_order_error(variance: Tensor, squared: Tensor, bins: int) -> float:
    """sum_b (n_b / n) |mean predicted variance - mean squared error|, over bins of equally many by the variance.

    Args:
        variance: what (true - predicted probability)^2 is expected to be (n,).
        squared: what it is (n,).
        bins: at most n of them.
    """
    order = variance.argsort(stable=True)
    gaps = (variance - squared)[order].tensor_split(min(bins, len(variance)))
    return float(torch.stack([gap.sum().abs() for gap in gaps]).sum() / len(variance))


def outside(variance: Tensor, squared: Tensor, beta: float) -> float:
    """Share of errors beyond sqrt(variance / beta), which Chebyshev's inequality allows beta of (n,), (n,) -> scalar.

    Errors below 1e-3 count as inside: a variance of 0 says that there is none, and float32 that there is one.
    """
    return float(((squared > variance / beta) & (squared > 1e-6)).double().mean())

"""What randomised smoothing says of an output within a radius.

The smoothed output g(x) = E h(x + e) of h in [0, 1], e from N(0, sigma^2), moves by no more than the radius on the
scale of the Gaussian's quantiles (Cohen et al. 2019; Salman et al. 2019, lemma 2): with Phi its distribution function

    |Phi^-1(g(x')) - Phi^-1(g(x))| <= |x' - x| / sigma        (2-norm)
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

CLOSEST = 1e-6
"""A probability counts as no nearer to 0 or 1 than this: an output in float32 that is rounded to 1 isn't sure."""


def shifted(g: Tensor, distance: float) -> Tensor:
    """Phi(Phi^-1(g) + distance) of smoothed outputs g (...), float64: the most they can be; the least if negative.

    Args:
        g: in [0, 1].
        distance: radius / sigma.
    """
    if distance == 0:
        return g
    sure = g.clamp(min=CLOSEST) if distance > 0 else g.clamp(max=1 - CLOSEST)
    return torch.special.ndtr(torch.special.ndtri(sure) + distance)


def mean_bounds(mean: Tensor, draws: int, error: float) -> tuple[Tensor, Tensor]:
    """Where the expectation lies, given the mean of independent draws in [0, 1]: bounds that fail with P <= `error`.

    From Hoeffding 1963, theorem 1: P(mean >= g + t) <= exp(-draws KL(g + t, g)), with KL that of two coins, and the
    same below. The bounds are where draws KL(mean, g) = ln(2 / error), found by bisection.

    Args:
        mean: (...), float64.
        draws: how many.
        error: in [0, 1); 0 takes the mean for the expectation.

    Returns:
        Lower and upper bounds (...).
    """
    if error == 0:
        return mean, mean
    allowed = math.log(2 / error) / draws
    ends = []
    for outer in (torch.zeros_like(mean), torch.ones_like(mean)):
        inside, outside = mean, outer
        for _ in range(50):
            middle = (inside + outside) / 2
            near = divergence(mean, middle) <= allowed
            inside, outside = torch.where(near, middle, inside), torch.where(near, outside, middle)
        ends.append(outside)
    return ends[0], ends[1]


def divergence(a: Tensor, b: Tensor) -> Tensor:
    """KL of two coins with probabilities a and b (...), nats."""
    return torch.xlogy(a, a / b) + torch.xlogy(1 - a, (1 - a) / (1 - b))

"""Conservative Bayesian inference: the worst case over all priors that agree with what is known.

X is a system's probability of failure on a demand. It has passed k demands in a row, which has the probability
(1 - X)^k; demands are independent given X. Everything is batched and in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor

STEPS = 80
"""Halvings of an interval of length 1: beyond float64's precision."""


def worst_reliability(passed: Tensor, ahead: Tensor, theta: Tensor, epsilon: Tensor) -> Tensor:
    """inf E[(1 - X)^(k + t)] / E[(1 - X)^k] over all priors with P(X <= epsilon) = theta, or more: (...).

    That is the least probability, given k passed demands, that the next t pass, too. It is below a value v just where
    some prior has E[g_v(X)] < 0, g_v(x) = (1 - x)^k ((1 - x)^t - v), which is linear in the prior: the best it can do
    is to put theta and 1 - theta each where g_v is least. g_v falls up to x_v = 1 - (v k / (k + t))^(1 / t) and rises
    after it, and at the root v* of

        theta g_v(epsilon) + (1 - theta) g_v(max(x_v, epsilon)) = 0

    x_v lies above epsilon. The worst prior therefore has two points, epsilon and x_v. v* is found by bisection, for the
    left side falls with v. It is below (1 - epsilon)^t, which it approaches as k grows; a lower bound on X changes
    nothing as long as it is not above epsilon. With k = 0 it is theta (1 - epsilon)^t.

    Args:
        passed: k, at least 0.
        ahead: t, above 0.
        theta: in [0, 1].
        epsilon: in [0, 1).
    """
    k, t, theta, epsilon = torch.broadcast_tensors(*(value.double() for value in (passed, ahead, theta, epsilon)))
    low, high = torch.zeros_like(k), torch.exp(t * torch.log1p(-epsilon))
    top = k * torch.log1p(-epsilon)  # g is taken in units of (1 - epsilon)^k, or it vanishes for large k
    for _ in range(STEPS):
        v = (low + high) / 2
        survives = (v * k / (k + t)).pow(1 / t).clamp(max=1 - epsilon)  # 1 - x_v
        above = torch.exp(torch.xlogy(k, survives) - top) * (survives.pow(t) - v)
        below = torch.exp(t * torch.log1p(-epsilon)) - v
        reached = theta * below + (1 - theta) * above >= 0
        low, high = torch.where(reached, v, low), torch.where(reached, high, v)
    return low


def worst_confidence(passed: Tensor, bound: Tensor, mean: Tensor, lower: Tensor) -> Tensor:
    """inf P(X <= p | k passed) over all priors with E[X] <= m and X >= p_l: (...).

    A prior with two points a <= m and p (just above it), and the mean m, has the odds of X <= p, given k,

        (p - m) / (m - a) * ((1 - a) / (1 - p))^k

    which are least at a = (k m - 1) / (k - 1), or at p_l if that is larger; points above p would have higher odds, and
    a third point none that are lower. So p_l only matters for the few demands k <= 1 + (1 - m) / (m - p_l). Where
    m >= p nothing can be said, and it is 0; where m = p_l it is 1.

    Args:
        passed: k, at least 0.
        bound: p, in (0, 1).
        mean: m, in [p_l, 1].
        lower: p_l, in [0, 1).
    """
    k, p, m, floor = torch.broadcast_tensors(*(value.double() for value in (passed, bound, mean, lower)))
    a = torch.where(k > 1, (k * m - 1) / (k - 1).clamp(min=1), floor).maximum(floor).minimum(m)
    log_odds = torch.log((p - m).clamp(min=0)) - torch.log(m - a) + k * (torch.log1p(-a) - torch.log1p(-p))
    return torch.where(m >= p, 0.0, torch.where(m <= floor, 1.0, log_odds.sigmoid()))


def worst_confidence_of_quantile(passed: Tensor, bound: Tensor, theta: Tensor, epsilon: Tensor) -> Tensor:
    """inf P(X <= p | k passed) over all priors with P(X <= epsilon) = theta, epsilon <= p: (...).

    The worst prior has the points epsilon, with theta, and p (just above it): the odds of X <= p, given k, are
    theta / (1 - theta) * ((1 - epsilon) / (1 - p))^k. It is 0 where p < epsilon.

    Args:
        passed: k, at least 0.
        bound: p, in (0, 1).
        theta: in (0, 1).
        epsilon: in [0, 1).
    """
    k, p, theta, epsilon = torch.broadcast_tensors(*(value.double() for value in (passed, bound, theta, epsilon)))
    odds = torch.logit(theta) + k * (torch.log1p(-epsilon) - torch.log1p(-p))
    return torch.where(p < epsilon, 0.0, odds.sigmoid())

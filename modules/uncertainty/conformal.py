"""Split conformal prediction as functions of scores, batched over problems: (..., n) holds n calibration records each.

A score says how badly a target fits a record. With the scores S_1, ..., S_n of calibration records, the quantile

    Q = the k-th smallest of S_1, ..., S_n, k = ceil((n + 1)(1 - alpha)); infinite where k > n

and a new record that is exchangeable with them, P(S_{n+1} <= Q) >= 1 - alpha, and at most 1 - alpha + 1 / (n + 1) where
scores have no ties (Vovk et al. 2005; Lei et al. 2018). The set of all targets with a score of at most Q
therefore covers the true one at that rate.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError

SCORES = ("lac", "aps", "raps")
"""Scores of classes, by name."""


def check_alpha(alpha: float) -> None:
    """Refuse what is no share of records.

    Raises:
        UserError: an alpha outside of (0, 1).
    """
    if not 0 < alpha < 1:
        raise UserError(f"model.alpha={alpha}: it is a share of records, in (0, 1).")


def rank(n: Tensor, alpha: float) -> Tensor:
    """ceil((n + 1)(1 - alpha)) of numbers of calibration records int64 (...) -> int64 (...)."""
    # (n + 1) alpha may be a whole number that floating point misses by a hair: 10 * (1 - 0.7) is no 3.
    return n + 1 - torch.floor((n + 1).double() * alpha + 1e-9).long()


def conformal_quantile(scores: Tensor, alpha: float) -> Tensor:
    """Q of calibration scores (..., n) -> (...); infinite where alpha asks for more records than there are.

    Args:
        scores: (..., n); infinite ones are above all others.
        alpha: share of records that may be missed, in (0, 1).
    """
    n = scores.shape[-1]
    k = int(rank(torch.tensor(n), alpha))
    if k > n:
        return scores.new_full(scores.shape[:-1], torch.inf)
    return scores.kthvalue(k, -1).values


def mondrian_quantiles(scores: Tensor, groups: Tensor, count: int, alpha: float) -> Tensor:
    """Q of each group's own records (Vovk 2012: Mondrian), so that coverage holds within each group.

    Args:
        scores: (..., n).
        groups: int64 (..., n), in 0 ... count - 1; the classes, for coverage of each class.
        count: number of groups.
        alpha: share of records that may be missed, in (0, 1).

    Returns:
        (..., count); infinite for groups that are too small.
    """
    own = groups[..., None, :] == torch.arange(count, device=groups.device)[:, None]
    ranked = scores[..., None, :].masked_fill(~own, torch.inf).sort(-1).values
    n = own.sum(-1)
    k = rank(n, alpha)
    found = ranked.gather(-1, (k - 1).clamp(max=scores.shape[-1] - 1)[..., None]).squeeze(-1)
    return found.masked_fill(k > n, torch.inf)


def class_scores(proba: Tensor, score: str, u: Tensor | float = 1.0, weight: float = 0.01, free: int = 5) -> Tensor:
    """Scores of all classes: probabilities (..., C) -> (..., C), small where a class fits.

    - `lac`: 1 - p_y (Sadinle et al. 2019): the smallest sets on average.
    - `aps`: sum of the p_c above p_y, plus u p_y (Romano et al. 2020): larger sets for harder records.
    - `raps`: aps + weight * max(0, rank of y - free) (Angelopoulos et al. 2021), rank 1 being the likeliest.

    Classes of equal probability are ranked by their index.

    Args:
        proba: (..., C).
        score: one of `SCORES`.
        u: U(0, 1) draws (...) of the records, for coverage of just 1 - alpha; 1 takes the whole class, and covers more.
        weight: of `raps`; 0.01, and free = 5: the authors' for ImageNet's ResNets.
        free: ranks without a penalty.
    """
    if score == "lac":
        return 1 - proba
    ordered, order = proba.sort(dim=-1, descending=True, stable=True)
    u = torch.as_tensor(u, dtype=proba.dtype, device=proba.device)
    above = ordered.cumsum(-1) - ordered
    scores = above + u[..., None] * ordered
    if score == "raps":
        ranks = torch.arange(1, proba.shape[-1] + 1, device=proba.device)
        scores = scores + weight * (ranks - free).clamp(min=0)
    return torch.empty_like(scores).scatter_(-1, order, scores)


def of_class(scores: Tensor, y: Tensor) -> Tensor:
    """Scores of all classes (..., C) and classes int64 (...) -> each record's own score (...)."""
    return scores.gather(-1, y[..., None]).squeeze(-1)


def residual_scores(mean: Tensor, spread: Tensor, y: Tensor) -> Tensor:
    """|y - mean| / spread (...): intervals mean +- Q spread; spread 1 for a width that is the same everywhere."""
    return (y - mean).abs() / spread


def quantile_scores(low: Tensor, high: Tensor, y: Tensor) -> Tensor:
    """max(low - y, y - high) (...): how far y lies outside of an interval, negative inside.

    Conformalized quantile regression (Romano et al. 2019): intervals [low - Q, high + Q].
    """
    return torch.maximum(low - y, y - high)


def exact_interval(successes: int, trials: int, confidence: float = 0.95) -> tuple[float, float]:
    """Clopper and Pearson 1934: an interval of a probability that holds at least with `confidence`."""
    from statsmodels.stats.proportion import proportion_confint

    if not trials:
        return math.nan, math.nan
    low, high = proportion_confint(successes, trials, alpha=1 - confidence, method="beta")
    return float(low), float(high)

"""How well a score tells two kinds of records apart."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torchmetrics.functional.classification import binary_auroc, binary_average_precision


def separation(score: Tensor, positive: Tensor) -> dict[str, float]:
    """Figures of a score that should be high for positives; all in [0, 1].

    - `auroc`: probability that a positive scores higher than a negative, ties counting half.
    - `aupr`: average precision, the positives being what is looked for.
    - `fpr95`: the share of negatives at or above the highest threshold that 95% of the positives reach.

    Args:
        score: (n,), any order-preserving scale.
        positive: bool (n,).

    Returns:
        NaN each, where there are no positives, no negatives, or a NaN among the scores.
    """
    if bool(positive.all()) or not bool(positive.any()) or bool(score.isnan().any()):
        return dict.fromkeys(("auroc", "aupr", "fpr95"), math.nan)
    # Ranks in the place of scores: torchmetrics takes scores outside [0, 1] for logits, whose sigmoid makes ties.
    rank = score.unique(return_inverse=True)[1].double()
    rank = rank / rank.max().clamp(min=1)
    target = positive.long()
    ordered = score[positive].sort(descending=True).values
    threshold = ordered[math.ceil(0.95 * len(ordered)) - 1]
    return {
        "auroc": float(binary_auroc(rank, target, validate_args=False)),
        "aupr": float(binary_average_precision(rank, target, validate_args=False)),
        "fpr95": float((score[~positive] >= threshold).double().mean()),
    }


def risk_coverage(uncertainty: Tensor, loss: Tensor) -> Tensor:
    """Mean loss of the k records of least uncertainty, for k = 1 to n: (n,), float64.

    Records of equal uncertainty have the mean loss of them all, so that their order does not matter.
    """
    levels, place, count = uncertainty.unique(return_inverse=True, return_counts=True)
    mean = torch.zeros(len(levels), dtype=torch.float64).index_add_(0, place, loss.double()) / count
    ordered = mean.repeat_interleave(count)
    return ordered.cumsum(0) / torch.arange(1, len(loss) + 1, dtype=torch.float64)


def aurc(uncertainty: Tensor, loss: Tensor) -> float:
    """Area under the risk-coverage curve: the mean of `risk_coverage` over k (Geifman et al. 2019)."""
    return float(risk_coverage(uncertainty, loss).mean()) if len(loss) else math.nan

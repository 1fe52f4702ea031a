"""Errors of accuracy and calibration of detections that were matched with boxes, see `modules.supervised.boxes`.

Throughout, n detections of one or of all classes have a score in [0, 1] and the IoU of the box that they were matched
with, 0 for none.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

COCO = tuple(0.5 + 0.05 * step for step in range(10))
"""IoU from which on a box is found, of COCO's average precision."""


def average_precision(scores: Tensor, found: Tensor, truths: int) -> float:
    """Precision as a function of recall, never rising, mean over the recalls 0, 0.01, ..., 1 (COCO).

    Args:
        scores: (n,).
        found: whether a detection found a box, bool (n,).
        truths: number of boxes.

    Returns:
        In [0, 1]; NaN without boxes.
    """
    if not truths:
        return math.nan
    right = found[scores.argsort(descending=True, stable=True)].double().cumsum(0)
    precision = right / torch.arange(1, len(right) + 1, device=right.device)
    highest = precision.flip(0).cummax(0).values.flip(0)
    levels = torch.linspace(0, 1, 101, dtype=torch.float64, device=right.device)
    place = torch.searchsorted(right / truths, levels - 1e-12)
    reached = place < len(right)
    return float(highest[place[reached]].sum() / len(levels))


def lrp(iou: Tensor, truths: int, least: float = 0.0) -> float:
    """Localisation recall precision error: (sum over found boxes of (1 - IoU) / (1 - least) + FP + FN) / all three.

    All three are true, false and missed detections (Oksuz et al. 2018). In [0, 1], 0 is best; 1 without a detection,
    NaN where there are no boxes either.
    """
    found = iou > 0
    right, wrong = int(found.sum()), int((~found).sum())
    missed = truths - right
    if right + wrong + missed == 0:
        return math.nan
    apart = float((1 - iou[found].double()).sum()) / (1 - least)
    return (apart + wrong + missed) / (right + wrong + missed)


def localised_errors(scores: Tensor, iou: Tensor, bins: int = 25) -> tuple[float, float]:
    """How far the scores of one class are from the IoU that they should be (Kuzucu et al. 2024).

    - LaECE: sum over bins of equal width of (n_b / n) |mean score - mean IoU|, false detections counting as IoU 0.
    - LaACE: mean |score - IoU|, as with a bin for each.

    Both in [0, 1], NaN without detections.
    """
    if not len(scores):
        return math.nan, math.nan
    gap = scores.double() - iou.double()
    index = (scores * bins).ceil().long().sub(1).clamp(0, bins - 1)
    sums = torch.zeros(bins, dtype=torch.float64, device=scores.device).index_add(0, index, gap)
    return float(sums.abs().sum() / len(scores)), float(gap.abs().mean())

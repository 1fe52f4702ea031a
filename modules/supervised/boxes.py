"""Boxes against boxes: overlap, matching, and the threshold that keeps most of the right ones."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def overlaps(one: Tensor, other: Tensor) -> Tensor:
    """Boxes (..., M, 4) and (..., K, 4), left, top, right, bottom -> intersection over union (..., M, K)."""
    low = torch.maximum(one[..., :, None, :2], other[..., None, :, :2])
    high = torch.minimum(one[..., :, None, 2:], other[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    sizes = [(boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(-1) for boxes in (one, other)]
    union = sizes[0][..., :, None] + sizes[1][..., None, :] - shared
    return torch.where(union > 0, shared / union.clamp(min=1e-12), 0.0)


def matched(iou: Tensor, kinds: Tensor, truth: Tensor, least: float) -> Tensor:
    """Which boxes are found, in all pictures at once, as COCO does it.

    In the order of the detections, the most confident first, each takes the box of its kind that is still free and
    overlaps it most, if their IoU is above 0 and at least `least`.

    Args:
        iou: (B, M, K).
        kinds: of the detections, int64 (B, M).
        truth: kinds of the boxes, int64 (B, K), -1 for none.
        least: in [0, 1].

    Returns:
        IoU of each detection with its box, 0 for a false one (B, M).
    """
    free = truth >= 0
    found = torch.zeros_like(iou[..., 0])
    for m in range(iou.shape[1]):
        fitting = free & (truth == kinds[:, m, None]) & (iou[:, m] >= least)
        best, box = torch.where(fitting, iou[:, m], 0.0).max(1)
        found[:, m] = best
        taken = torch.zeros_like(free).scatter_(1, box[:, None], (best > 0)[:, None])
        free = free & ~taken
    return found


def best_threshold(scores: Tensor, iou: Tensor, truths: int, least: float = 0.0) -> float:
    """The score from which on detections are kept so that `lrp` is smallest; above all scores where none is best."""
    if not len(scores):
        return math.inf
    order = scores.argsort(descending=True, stable=True)
    kept = scores[order].double()
    found = (iou[order] > 0).double()
    right = found.cumsum(0)
    number = torch.arange(1, len(kept) + 1, device=kept.device)
    apart = (found * (1 - iou[order].double())).cumsum(0) / (1 - least)
    error = (apart + (number - right) + (truths - right)) / (number + truths - right)
    # Equal scores stand and fall together.
    whole = torch.cat([kept[1:] < kept[:-1], torch.ones(1, dtype=torch.bool, device=kept.device)])
    error = torch.where(whole, error, torch.inf)
    return float(kept[error.argmin()]) if float(error.min()) < 1 else math.inf

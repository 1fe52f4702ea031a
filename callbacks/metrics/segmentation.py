"""How well masks agree, and how far the probabilities of pixels are from their frequencies."""

from __future__ import annotations

import torch
from torch import Tensor

BORDER = 95.0
"""Percentile of the distances between two outlines, so that a single stray pixel says nothing (HD95)."""


def confusion(predicted: Tensor, truth: Tensor, classes: int) -> Tensor:
    """Masks int64 (N, H, W) -> per picture how many pixels of class i are called j, int64 (N, classes, classes)."""
    picture = torch.arange(len(truth), device=truth.device)[:, None]
    index = (picture * classes + truth.flatten(1)) * classes + predicted.flatten(1)
    return index.flatten().bincount(minlength=len(truth) * classes**2).view(-1, classes, classes)


def dice(counts: Tensor) -> Tensor:
    """Confusion (..., K, K) -> Dice coefficient 2 |A and B| / (|A| + |B|) of each class (..., K).

    NaN where a class is in neither mask.
    """
    counts = counts.double()
    shared = counts.diagonal(dim1=-2, dim2=-1)
    return 2 * shared / (counts.sum(-1) + counts.sum(-2))


def jaccard(counts: Tensor) -> Tensor:
    """Confusion (..., K, K) -> intersection over union |A and B| / |A or B| of each class (..., K), NaN as `dice`."""
    counts = counts.double()
    shared = counts.diagonal(dim1=-2, dim2=-1)
    return shared / (counts.sum(-1) + counts.sum(-2) - shared)


def outlines(masks: Tensor) -> Tensor:
    """Masks bool (N, H, W) -> their pixels that have one outside among their four neighbours, bool (N, H, W).

    Outside of the picture is outside of the mask.
    """
    padded = torch.nn.functional.pad(masks, (1, 1, 1, 1))
    deep = padded[:, :-2, 1:-1] & padded[:, 2:, 1:-1] & padded[:, 1:-1, :-2] & padded[:, 1:-1, 2:]
    return masks & ~deep


def hausdorff(predicted: Tensor, truth: Tensor, percentile: float = BORDER) -> Tensor:
    """Masks bool (N, H, W) of one class -> distance of their outlines in pixels, float64 (N,).

    The percentile of the distances from each pixel of either outline to the other outline, all together (as in the
    package MedPy; 100 is the Hausdorff distance of the outlines). NaN where one of the masks is empty.
    """
    from scipy.ndimage import distance_transform_edt

    one, other = outlines(predicted).cpu(), outlines(truth).cpu()
    # All pictures in one transform: a step to the next picture is longer than any way within one.
    far = float(2 * (one.shape[1] + one.shape[2]))
    gaps = []
    for here, there in ((one, other), (other, one)):
        away = torch.from_numpy(distance_transform_edt(~there.numpy(), sampling=(far, 1.0, 1.0)))
        gaps.append(torch.where(here, away, torch.nan))
    known = one.flatten(1).any(1) & other.flatten(1).any(1)
    distances = torch.nanquantile(torch.stack(gaps, 1).flatten(1), percentile / 100, dim=1)
    return torch.where(known, distances, torch.nan).to(predicted.device)


def bin_gaps(p: Tensor, y: Tensor, bins: int) -> Tensor:
    """Forecasts in [0, 1] and outcomes 0 or 1, (n,) -> sum of y - p over each bin of equal width, float64 (bins,).

    The sum of their absolute values over n is the binned ECE, so that batches and processes can be added up.
    """
    index = (p * bins).ceil().long().sub(1).clamp(0, bins - 1)
    return torch.zeros(bins, dtype=torch.float64, device=p.device).index_add(0, index, (y - p).double())

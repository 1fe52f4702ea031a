"""The labels around a pixel, as a law over classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError

RANKS = ("min", "max", "median", "mode")
PRIORS = ("mean", "gaussian", *RANKS)


def gaussian_kernel(size: int, sigma: float) -> Tensor:
    """Weights (size, size) of the labels around a pixel, which add up to 1: half for the pixel, half for the others.

    The others are weighted by exp(-distance^2 / (2 sigma^2)). Islam and Glocker 2021, section 2.2, in the form of the
    code of Murugesan et al. (`calibrate/losses/utils.py`): the centre weighs as much as all the others together.
    """
    place = torch.arange(size) - (size - 1) / 2
    weights = torch.exp(-(place[:, None].square() + place.square()) / (2 * sigma**2))
    weights[size // 2, size // 2] = 0
    weights = weights / (2 * weights.sum())
    weights[size // 2, size // 2] = 0.5
    return weights


def proportions(labels: Tensor, prior: str, size: int, sigma: float = 1.0) -> Tensor:
    """One-hot labels (B, K, H, W) -> for each pixel a law over classes (B, K, H, W) from the patch around it.

    - `mean`: the share of each class among the size x size labels.
    - `gaussian`: the same with the weights of `gaussian_kernel`.
    - `min`, `max`, `median`, `mode`: all on one class, which is this statistic of the class numbers.

    Beyond the border stand the labels at the border.

    Deviations: the code of the authors (`calibrate/losses/spatial_adaptive_margin.py`) has background beyond the
    border with all but the Gaussian weights.
    """
    batch, classes, height, width = labels.shape
    padded = F.pad(labels, (size // 2,) * 4, mode="replicate")
    if prior in ("mean", "gaussian"):
        weights = gaussian_kernel(size, sigma) if prior == "gaussian" else torch.full((size, size), size**-2.0)
        kernel = weights.to(labels).expand(classes, 1, size, size)
        return F.conv2d(padded, kernel, groups=classes)
    patches = F.unfold(padded.argmax(1, keepdim=True).to(labels.dtype), size)  # (B, size^2, H W)
    number = {"min": torch.amin, "max": torch.amax}.get(prior)
    chosen = number(patches, 1) if number else getattr(patches, prior)(1).values
    return F.one_hot(chosen.long(), classes).to(labels).movedim(2, 1).view(batch, classes, height, width)


def checked_patch(size: int, sigma: float) -> None:
    """Refuse a patch without a middle or without a width.

    Raises:
        UserError: an even size or one below 3, a sigma that is not positive.
    """
    if size < 3 or size % 2 == 0:
        raise UserError(f"model.size={size}: an odd number of pixels, at least 3.")
    if sigma <= 0:
        raise UserError(f"model.sigma={sigma}: above 0.")

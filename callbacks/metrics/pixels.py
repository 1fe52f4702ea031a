"""How colourful, contrasty and overexposed pictures are."""

from __future__ import annotations

import torch
from torch import Tensor


def saturation(pictures: Tensor) -> Tensor:
    """Mean saturation in HSV, (max - min) / max over the channels of a pixel and 0 for black, a scalar in [0, 1].

    Args:
        pictures: (N, 3, H, W) in [0, 1].
    """
    highest, lowest = pictures.double().amax(1), pictures.double().amin(1)
    return torch.where(highest > 0, (highest - lowest) / highest.where(highest > 0, 1.0), 0.0).mean()


def extremes(pictures: Tensor, levels: int = 256) -> Tensor:
    """Share of the components of (N, C, H, W) in [0, 1] in the lowest or the highest of equally wide `levels`."""
    pictures = pictures.double()
    return ((pictures < 1 / levels) | (pictures > 1 - 1 / levels)).double().mean()


def contrast(pictures: Tensor) -> Tensor:
    """Standard deviation of a picture's components (RMS contrast), mean over (N, C, H, W): a scalar."""
    return pictures.double().flatten(1).std(1, correction=0).mean()

"""Time as features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """t (B,) in [0, 1] -> (B, width): sines and cosines of geometrically spaced frequencies, then two linear layers.

    Args:
        width: number of features.
        frequencies: number of sine-cosine pairs, from pi / 2 to `highest` * pi / 2.
        highest: ratio of the highest to the lowest frequency.
    """

    def __init__(self, width: int, frequencies: int = 16, highest: float = 64.0) -> None:
        super().__init__()
        scales = torch.exp(torch.linspace(0, math.log(highest), frequencies)) * math.pi / 2
        self.register_buffer("scales", scales, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.scales
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))

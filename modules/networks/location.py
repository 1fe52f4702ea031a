"""The energy of a Gaussian whose mean is all there is to learn."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Location(nn.Module):
    """x (B, ...) -> -|x - w|^2 / 2 (B, 1): the logarithm of N(w, I) without its constant.

    Args:
        in_shape: shape of one x.
        out_shape: (1,).
        start: of every component of w.
    """

    kinds = ("image", "vector")

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], start: float = 0.0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.full(in_shape, float(start)))

    def forward(self, x: Tensor) -> Tensor:
        return -0.5 * (x - self.mean).flatten(1).square().sum(1, keepdim=True)

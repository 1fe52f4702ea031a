"""Random corruptions of vectors, for whole batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from compendium.errors import UserError


class GaussianJitter(nn.Module):
    """Adds N(0, std^2) to each component.

    Args:
        std: in the units of `x` after scaling: 0.1 standard deviations by default (our choice).

    Raises:
        UserError: a negative `std`.
    """

    def __init__(self, std: float = 0.1) -> None:
        super().__init__()
        if std < 0:
            raise UserError(f"GaussianJitter.std={std} is negative.")
        self.std = std

    def forward(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B, D)."""
        return x + self.std * torch.randn_like(x)


class FeatureMask(nn.Module):
    """Sets each component to zero, the mean after standard scaling, with probability `rate`.

    Args:
        rate: in [0, 1); 0.3 as in VIME (Yoon et al. 2020), which puts in values of other records instead.

    Raises:
        UserError: a rate outside [0, 1).
    """

    def __init__(self, rate: float = 0.3) -> None:
        super().__init__()
        if not 0 <= rate < 1:
            raise UserError(f"FeatureMask.rate={rate} is not in [0, 1).")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        """x (B, D) -> (B, D)."""
        return x * (torch.rand_like(x) >= self.rate)

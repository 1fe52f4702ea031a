"""Denoising and super-resolution with a normal law at every pixel, by one network or an ensemble."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.stacked import Stacked
from modules.uncertainty.ensemble import checked


class Restorer(Method):
    """K networks that each say of every pixel y of the clean, fine picture

        y ~ N(u(x) + mu_k(u(x)), sigma_k(u(x))^2),    loss = sum_k mean over pixels of -ln N(y; ...)

    u is bilinear enlargement, the identity where `factor` is 1. A normal law whose deviation is learned by likelihood
    is that of Nix and Weigend 1994, at every pixel as in Kendall and Gal 2017; several networks are the deep ensemble
    of Lakshminarayanan et al. 2017, whose variance is mean_k sigma_k^2 (of the noise) plus the variance of the means
    (of the networks).

    Deviation: members see the same batches and differ by their weights at the start.

    Args:
        spec: noisy or coarse pictures.
        factor: how many times finer the output is, at least 1.
        members: K; 1, the plain baseline.
        floor: smallest sigma, in units of brightness in [-1, 1].
        parts: `net` (a config from fields to fields of one size: each member is built from it), `optimizer`,
            `schedule`, see `Method`.

    Raises:
        UserError: numbers out of range.
    """

    batch_type = Magnified
    kinds = ("image",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        factor: int = 1,
        members: int = 1,
        floor: float = 1e-3,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if factor < 1 or floor <= 0:
            raise UserError(f"model.factor={factor} model.floor={floor}: a factor of at least 1, a floor above 0.")
        self.factor, self.floor = factor, floor
        channels, height, width = self.spec.shape
        fine = (height * factor, width * factor)
        self.net = Stacked([self.build((channels, *fine), (2 * channels, *fine)) for _ in range(checked(members))])

    def predict_members(self, x: Tensor) -> Normal:
        """x (B, C, H, W) -> the members' laws of each pixel, with batch shape (K, B, C, f H, f W)."""
        if self.factor > 1:
            x = F.interpolate(x, scale_factor=float(self.factor), mode="bilinear", align_corners=False)
        mean, raw = self.net(x).float().chunk(2, 2)
        return Normal(x + mean, F.softplus(raw) + self.floor, validate_args=False)

    def loss(self, batch: Magnified) -> Tensor:
        return -self.predict_members(batch.x).log_prob(batch.high).flatten(1).mean(1).sum()

    def super_resolve(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (2 K, B, C, f H, f W): a standard deviation above and below the mean of each member.

        They stand for the laws: their mean and variance are those of the mixture.
        """
        law = self.predict_members(x)
        return torch.cat([law.loc - law.scale, law.loc + law.scale])

"""The plain regressor: a Gaussian around whatever network the data calls for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Normal
from torch.nn import functional as F

from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class GaussianRegressor(Method):
    """y | x ~ Normal(m + s mu(x), (s sigma(x))^2), trained by its negative log-likelihood (Nix and Weigend 1994).

    m and s are the mean and standard deviation of the training targets, so that the network works in units of one.
    They are buffers, set when training starts.

    Args:
        spec: labelled data with a real target.
        floor: smallest sigma, in units of s.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: the target is not real.
    """

    batch_type = Labelled
    targets = ("real",)
    otherwise = "for classes: model=supervised/classifier"

    def __init__(self, spec: DataSpec | Mapping[str, Any], floor: float = 1e-3, **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.floor = floor
        self.net = self.build(self.spec.shape, (2,))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def on_fit_start(self) -> None:
        """Take the units of the target from the training split; a continued run has them in its checkpoint."""
        data = self.trainer.datamodule
        targets = data.columns["y"][data.rows["train"]].double()
        self.shift.fill_(targets.mean())
        self.scale.fill_(targets.std(correction=0).clamp_min(1e-12))

    def predict_distribution(self, x: Tensor) -> Normal:
        """x (B, ...) -> Normal with batch shape (B,), in the target's own units."""
        mean, raw = self.net(x).float().unbind(1)
        return Normal(self.shift + self.scale * mean, self.scale * (F.softplus(raw) + self.floor), validate_args=False)

    def loss(self, batch: Labelled) -> Tensor:
        return -self.predict_distribution(batch.x).log_prob(batch.y).mean()

"""The range in which a method receives `x`."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.source import Column
from datamodules.spec import DataSpec

FIT_ROWS = 50_000


class Scaling:
    """An affine map of `x`, fixed before training.

    Args:
        mode: `none` leaves `x` as it is; `symmetric` maps images from [0, 1] to [-1, 1] and leaves vectors alone;
            `standard` subtracts the mean and divides by the standard deviation of the training split, per channel of
            an image, per feature of a vector (a constant feature is only centred).

    Raises:
        UserError: an unknown mode.
    """

    MODES = ("none", "symmetric", "standard")

    def __init__(self, mode: str) -> None:
        if mode not in self.MODES:
            raise UserError(f"datamodule.scale={mode} is unknown.", f"there are: {', '.join(self.MODES)}")
        self.mode = mode
        self.shift = torch.zeros(())
        self.scale = torch.ones(())

    def describe(self, spec: DataSpec) -> DataSpec:
        """The spec after the map."""
        if self.mode == "none" or (self.mode == "symmetric" and spec.kind != "image"):
            return spec
        return spec.but(bounds=(-1.0, 1.0) if self.mode == "symmetric" else None)

    def fit(self, x: Column, rows: Tensor, spec: DataSpec) -> None:
        """Set the map, from at most the first `FIT_ROWS` training rows of `x`."""
        if self.mode == "symmetric" and spec.kind == "image":
            self.shift, self.scale = torch.tensor(0.5), torch.tensor(2.0)
        if self.mode == "standard":
            sample = x[rows[:FIT_ROWS]].double()
            dims = (0, 2, 3) if spec.kind == "image" else (0,)
            spread = sample.std(dims, correction=0, keepdim=True)
            self.shift = sample.mean(dims, keepdim=True).float()
            self.scale = torch.where(spread > 1e-12, 1 / spread.clamp_min(1e-12), torch.ones_like(spread)).float()

    def __call__(self, x: Tensor) -> Tensor:
        if self.shift.device != x.device:
            self.shift, self.scale = self.shift.to(x.device), self.scale.to(x.device)
        return (x - self.shift) * self.scale

"""The range in which a method receives `x`."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.source import Column, Truth
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

    def truth(self, law: Truth) -> Truth:
        """The law of the mapped records, given the law of the records."""
        identity = bool((self.shift == 0).all() and (self.scale == 1).all())
        return law if identity else ScaledTruth(law, self.shift.cpu(), self.scale.cpu())

    def __call__(self, x: Tensor) -> Tensor:
        if self.shift.device != x.device:
            self.shift, self.scale = self.shift.to(x.device), self.scale.to(x.device)
        return (x - self.shift) * self.scale


class ScaledTruth:
    """The law of (x - shift) * scale for x that follows `law`. A `Truth`.

    Args:
        law: of x, vectors (D,).
        shift: (1, D) or a scalar.
        scale: positive, (1, D) or a scalar.
    """

    def __init__(self, law: Truth, shift: Tensor, scale: Tensor) -> None:
        self.law, self.shift, self.scale = law, shift, scale

    def _back(self, x: Tensor) -> tuple[Tensor, Tensor]:
        scale = self.scale.to(x).expand(1, x.shape[1])
        return x / scale + self.shift.to(x), scale

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density (B,)."""
        back, scale = self._back(x)
        return self.law.log_prob(back) - scale.log().sum()

    def score(self, x: Tensor) -> Tensor:
        """x (B, D) -> gradient of the log density (B, D)."""
        back, scale = self._back(x)
        return self.law.score(back) / scale

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, D)."""
        x = self.law.sample(n, generator)
        return (x - self.shift.to(x)) * self.scale.to(x)

"""Pictures with noise, and without."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.presentations.magnified import MagnifiedData
from datamodules.source import Source


class NoisedData(MagnifiedData):
    """Pictures in [-1, 1] to be restored, as `Magnified` batches: `high` is clean, `x` has noise.

    In the brightness b in [0, 1] of the source, after the mean over squares where `factor` is above 1,

        x = Poisson(photons b) / photons + sigma N(0, 1),    cut off at 0 and 1 as a camera does,

    shot noise that grows with brightness and noise that does not (Foi et al. 2008); without `photons` only the latter.
    Training noise is drawn anew in each epoch; validation and test have the same noise whenever they are looked at.

    Args:
        source: pictures.
        factor: how many times finer `high` is, at least 1; 1 is denoising, 2 noisy super-resolution.
        sigma: standard deviation of the Gaussian noise, at least 0; 0.1 is nearly the 25 of 255 of most comparisons.
        photons: how many a white pixel counts on average, above 0; None: no shot noise.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: numbers out of range, pictures that the factor does not divide.
    """

    least = 1
    draws = ("train", "validation", "test")

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        factor: int = 1,
        sigma: float = 0.1,
        photons: float | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(source, factor=factor, **parts)
        if sigma < 0 or (photons is not None and photons <= 0):
            raise UserError(
                f"datamodule.sigma={sigma} datamodule.photons={photons}: at least 0, and more than 0 photons."
            )
        self.sigma, self.photons = sigma, photons

    def present(self, columns: dict[str, Tensor], split: str) -> Magnified:
        high = columns["x"]
        x = F.avg_pool2d(high, self.factor)
        if self.photons is not None:
            x = torch.poisson(self.photons * x) / self.photons
        x = (x + self.sigma * torch.randn_like(x)).clamp(0, 1)
        return Magnified(self.scaling(x), self.scaling(high))

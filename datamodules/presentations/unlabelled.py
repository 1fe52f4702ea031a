"""Records alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import Unlabelled
from datamodules.datamodule import SPLITS, DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source, Truth
from datamodules.spec import DataSpec


class UnlabelledData(DataModule):
    """Records as `Unlabelled` batches; a target, if there is one, is left out.

    Dequantization (Uria et al. 2013; Theis et al. 2016, section 3.1): a component that takes the L values
    k / (L - 1) becomes (k + u) / L in [0, 1) with u uniform in [0, 1), drawn anew for each batch. Such records have a
    density, and the mean of its log over u is a lower bound of the log probability of the level k. One level is then
    (bounds[1] - bounds[0]) / L wide: 2 / L with `symmetric`, 1 / L with `none`. So D components with log density
    `log_prob` take (-log_prob / D - log(width)) / log(2) bits per dimension.

    Args:
        source: images or vectors, with or without a target.
        scale: see `Scaling`. With `standard`, components have no common level width: the spec's `levels` are None.
        dequantize: add the noise within a level to images with `levels`; other data are left alone.
        parts: the arguments of `DataModule`.
    """

    batch_type = Unlabelled

    def __init__(
        self, source: Source | Mapping[str, Any], *, scale: str = "symmetric", dequantize: bool = True, **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        self.scaling = Scaling(scale)
        self.dequantize = dequantize
        self.levels: int | None = None

    @property
    def truth(self) -> Truth | None:
        """The exact law of `x` as the method receives it, where it is known."""
        law = super().truth
        return None if law is None else self.scaling.truth(law)

    def describe(self, spec: DataSpec) -> DataSpec:
        if self.dequantize and spec.kind == "image":
            self.levels = spec.levels
        self.draws = SPLITS if self.levels is not None else ()
        described = self.scaling.describe(spec)
        return described.but(levels=None) if self.scaling.mode == "standard" else described

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)

    def present(self, columns: dict[str, Tensor], split: str) -> Unlabelled:
        x = columns["x"]
        if self.levels is not None:
            # Rounding first: k / (L - 1) is not exact in float32. Just below 1, k + u may round up to k + 1.
            noise = torch.rand_like(x).clamp_max_(1 - 2**-12)
            x = ((x * (self.levels - 1)).round_() + noise) / self.levels
        return Unlabelled(self.scaling(x))

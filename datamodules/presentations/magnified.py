"""Pictures, and the same at a lower resolution."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source
from datamodules.spec import DataSpec


class MagnifiedData(DataModule):
    """Pictures in [-1, 1] and the means of their squares of `factor` x `factor` pixels, as `Magnified` batches.

    The spec is that of the coarse pictures, `x`.

    Args:
        source: pictures.
        factor: how many times finer `high` is, at least 2.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: a factor below 2, pictures that it does not divide.
    """

    batch_type = Magnified
    kinds = ("image",)
    least: ClassVar[int] = 2

    def __init__(self, source: Source | Mapping[str, Any], *, factor: int = 2, **parts: Any) -> None:
        super().__init__(source, **parts)
        if factor < self.least:
            raise UserError(f"datamodule.factor={factor}: at least {self.least}.")
        self.factor = factor
        self.scaling = Scaling("symmetric")

    def describe(self, spec: DataSpec) -> DataSpec:
        channels, height, width = spec.shape
        if height % self.factor or width % self.factor:
            raise UserError(f"datamodule.factor={self.factor} does not divide pictures of {height} x {width}.")
        return self.scaling.describe(spec).but(
            shape=(channels, height // self.factor, width // self.factor), levels=None
        )

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)

    def present(self, columns: dict[str, Tensor], split: str) -> Magnified:
        high = self.scaling(columns["x"])
        return Magnified(F.avg_pool2d(high, self.factor), high)

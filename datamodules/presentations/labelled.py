"""Records with their targets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datamodules.batches import Labelled
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source


class LabelledData(DataModule):
    """Records and targets as `Labelled` batches.

    Args:
        source: images or vectors with a class or a real number as target.
        scale: see `Scaling`; `standard` uses the mean and standard deviation of the training split.
        parts: the arguments of `DataModule`.
    """

    batch_type = Labelled
    targets = ("class", "real")

    def __init__(self, source: Source | Mapping[str, Any], *, scale: str = "standard", **parts: Any) -> None:
        super().__init__(source, **parts)
        self.scaling = Scaling(scale)

    def describe(self, spec):
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)

    def present(self, columns: dict[str, Tensor], split: str) -> Labelled:
        return Labelled(self.scaling(columns["x"]), columns["y"])

"""Pictures with a class at every pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Records, Source
from datamodules.spec import DataSpec


class SegmentedData(DataModule):
    """Pictures and their masks as `Segmented` batches; parent of what else is shown of such pictures.

    A subclass names another batch type, whose fields are columns of the source.

    Args:
        source: pictures with a mask.
        scale: see `Scaling`; `standard` uses the mean and standard deviation of the training split.
        learn: whose records come as training batches: those of `train`, or, for what is fit after training such as a
            calibrator, those of `validation`. The scale is that of the training split all the same.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: a source that does not know all of it, another split.
    """

    batch_type: ClassVar[type] = Segmented
    kinds = ("image",)
    targets = ("mask",)

    def __init__(
        self, source: Source | Mapping[str, Any], *, scale: str = "standard", learn: str = "train", **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        if learn not in ("train", "validation"):
            raise UserError(f"datamodule.learn={learn}: train or validation.")
        self.scaling, self.learn = Scaling(scale), learn
        self.trained_on = torch.empty(0, dtype=torch.long)

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        fields = self.batch_type._fields  # type: ignore[attr-defined]
        if missing := [name for name in fields if name not in self.columns]:
            raise UserError(f"data '{self.spec.name}' has no {' and '.join(missing)}.", "data=shapes has them")
        self.scaling.fit(self.columns["x"], self.trained_on, self.spec)

    def split(self, records: Records) -> dict[str, Tensor]:
        rows = super().split(records)
        self.trained_on = rows["train"]
        return rows | {"train": rows[self.learn]}

    def present(self, columns: dict[str, Tensor], split: str) -> Any:
        fields = self.batch_type._fields  # type: ignore[attr-defined]
        return self.batch_type(self.scaling(columns["x"]), *(columns[name] for name in fields[1:]))

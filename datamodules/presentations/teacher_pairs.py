"""Records with what two teachers say of them."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import TeacherPairs
from datamodules.datamodule import DataModule
from datamodules.spec import DataSpec


class TeacherPairData(DataModule):
    """Records as `TeacherPairs` batches, of columns `x`, `y`, `chosen` and `rejected`, in their own units.

    Args:
        parts: the arguments of `DataModule`.

    Raises:
        UserError: records that no teachers speak of.
    """

    batch_type = TeacherPairs
    kinds = ("vector",)
    targets = ("class",)

    def describe(self, spec: DataSpec) -> DataSpec:
        if "chosen" not in self.source_columns:
            raise UserError(f"no teachers speak of '{spec.name}'.", "data=teachers")
        return spec

    def present(self, columns: dict[str, Tensor], split: str) -> TeacherPairs:
        return TeacherPairs(**{name: columns[name] for name in TeacherPairs._fields})

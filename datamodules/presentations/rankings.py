"""Rankings to learn from, and choices to be judged by."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from datamodules.batches import Choices, Rankings
from datamodules.datamodule import DataModule
from datamodules.source import Column


class RankingData(DataModule):
    """Rankings as `Rankings` batches in training, and the problems that they are of as `Choices` in evaluation.

    Args:
        parts: the arguments of `DataModule`.
    """

    batch_type = Rankings
    kinds = ("vector",)
    targets = ("preference",)

    @property
    def evaluation_batch_type(self) -> type:
        return Choices

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        if split == "train":
            return {name: columns[name][rows] for name in ("ranked", "problem")}
        return {"problem": rows, **{name: columns[name][rows] for name in ("items", "weight")}}

    def present(self, columns: dict[str, Tensor], split: str) -> Rankings | Choices:
        return (Rankings if split == "train" else Choices)(**columns)

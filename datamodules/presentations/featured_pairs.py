"""Preferences between answers that are known by features."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from datamodules.batches import FeaturedPairs
from datamodules.datamodule import DataModule
from datamodules.source import Column


class FeaturedPairData(DataModule):
    """Pairs as `FeaturedPairs` batches, of columns `prompt`, `chosen` and `rejected`.

    Args:
        parts: the arguments of `DataModule`.
    """

    batch_type = FeaturedPairs
    kinds = ("vector",)
    targets = ("preference",)

    @property
    def columns(self) -> Mapping[str, Column]:
        return {**self.source_columns, "place": self.training_places()}

    def present(self, columns: dict[str, Tensor], split: str) -> FeaturedPairs:
        pairs = torch.stack([columns["chosen"], columns["rejected"]], 1)
        return FeaturedPairs(columns["prompt"], pairs, columns["place"])

"""Records with a real response and its mean, for evaluations that know the truth."""

from __future__ import annotations

import torch
from torch import Tensor

from datamodules.batches import Explained
from datamodules.presentations.labelled import LabelledData


class WithMean(LabelledData):
    """Records as `Explained` batches: with the mean of the response given the record, NaN where a source has none.

    Args:
        parts: the arguments of `LabelledData`.
    """

    batch_type = Explained
    targets = ("real",)

    def present(self, columns: dict[str, Tensor], split: str) -> Explained:
        y = columns["y"]
        return Explained(self.scaling(columns["x"]), y, columns.get("mean", torch.full_like(y, torch.nan)))

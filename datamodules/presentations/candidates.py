"""Records whose responses are asked for one by one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from datamodules.batches import Candidates
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Column


class CandidateData(LabelledData):
    """Records as `Candidates` batches: with which training record each is.

    Args:
        parts: the arguments of `LabelledData`.
    """

    batch_type = Candidates
    targets = ("real",)

    @property
    def columns(self) -> Mapping[str, Column]:
        return {**self.source_columns, "place": self.training_places()}

    def present(self, columns: dict[str, Tensor], split: str) -> Candidates:
        return Candidates(self.scaling(columns["x"]), columns["y"], columns["place"])

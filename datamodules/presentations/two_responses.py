"""Records with two responses each."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Responses
from datamodules.presentations.labelled import LabelledData


class TwoResponsesData(LabelledData):
    """Records with two responses and the law of the response as `Responses` batches.

    In training the two change places at random, so that whoever learns from one response sees both over the epochs. A
    source without the law gives NaN.

    Args:
        parts: the arguments of `LabelledData`.

    Raises:
        UserError: a source without a second response.
    """

    batch_type = Responses
    targets = ("class",)
    draws = ("train",)

    def prepare(self) -> None:
        if "other" not in self.columns:
            raise UserError(
                "datamodule=two_responses needs a second response to each record, a column 'other'.",
                "data that has one: two_responses",
            )
        super().prepare()

    def present(self, columns: dict[str, Tensor], split: str) -> Responses:
        y, other = columns["y"], columns["other"]
        if split == "train":
            first = torch.rand(len(y), device=y.device) < 0.5
            y, other = torch.where(first, y, other), torch.where(first, other, y)
        unknown = torch.full((len(y), len(self.spec.classes)), torch.nan, device=y.device)
        return Responses(self.scaling(columns["x"]), y, other, columns.get("law", unknown))

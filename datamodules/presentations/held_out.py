"""Records that a classifier or regressor was not trained on, for what is fit after it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source


class HeldOutData(LabelledData):
    """What `LabelledData` of the same source, shares and seed validates on comes as training records.

    Calibrators and conformal sets are fit on them. Records are scaled as that presentation scales them, by the
    statistics of the records that it trains on; its test records are these test records.

    Args:
        source: images or vectors with a class or a real number as target.
        share: of the held-out records to fit on; the rest validates. Half by our choice; 1 leaves nothing to validate
            on.
        scale: see `Scaling`.
        parts: the arguments of `DataModule`, those of the earlier training.

    Raises:
        UserError: a share outside (0, 1], nothing held out.
    """

    def __init__(
        self, source: Source | Mapping[str, Any], *, share: float = 0.5, scale: str = "standard", **parts: Any
    ) -> None:
        super().__init__(source, scale=scale, **parts)
        if not 0 < share <= 1:
            raise UserError(f"datamodule.share={share}: it is a share of the held-out records, above 0 and up to 1.")
        self.share_to_fit = share
        self.trained_on = torch.empty(0, dtype=torch.long)

    def split(self, records: Records) -> dict[str, Tensor]:
        rows = super().split(records)
        self.trained_on, held = rows["train"], rows["validation"]
        if not len(held):
            raise UserError(
                f"data '{records.spec.name}' holds nothing out to fit on.", "datamodule.validation=0.2, in both runs"
            )
        held = held[torch.randperm(len(held), generator=generator(self.seed, "held out"))]
        count = max(1, round(self.share_to_fit * len(held)))
        return {"train": held[:count], "validation": held[count:], "test": rows["test"]}

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.trained_on, self.spec)

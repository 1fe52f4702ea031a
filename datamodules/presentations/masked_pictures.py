"""Pictures of which a part is hidden."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Masked
from datamodules.datamodule import SPLITS, DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source
from datamodules.spec import DataSpec


class MaskedPictures(DataModule):
    """Pictures in [-1, 1] with a rectangular hole each, as `Masked` batches.

    Args:
        source: pictures.
        mask: `center` hides the same square in the middle of each picture; `random` a rectangle in a place of its own,
            drawn anew for each batch.
        hole: side of the square as a share of height and width; with `random` the longest side, the shortest is half of
            it. 0.5: the centre of the authors of pluralistic completion (Zheng et al. 2019), 128 of 256 pixels.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: an unknown mask, a hole that hides nothing or everything.
    """

    batch_type = Masked
    kinds = ("image",)
    MASKS = ("center", "random")

    def __init__(
        self, source: Source | Mapping[str, Any], *, mask: str = "center", hole: float = 0.5, **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        if mask not in self.MASKS:
            raise UserError(f"datamodule.mask={mask} is unknown.", f"there are: {', '.join(self.MASKS)}")
        if not 0 < hole < 1:
            raise UserError(f"datamodule.hole={hole}: a share of the side, above 0 and below 1.")
        self.mask, self.hole = mask, hole
        self.draws = SPLITS if mask == "random" else ()
        self.scaling = Scaling("symmetric")

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)

    def present(self, columns: dict[str, Tensor], split: str) -> Masked:
        x = self.scaling(columns["x"])
        hidden = [self.inside(len(x), side, x) for side in x.shape[2:]]
        return Masked(x, 1 - (hidden[0][:, :, None] & hidden[1][:, None]).to(x)[:, None])

    def inside(self, count: int, side: int, like: Tensor) -> Tensor:
        """Which places along a side lie in the hole of each picture, bool (count, side)."""
        place = torch.arange(side, device=like.device)
        longest = min(max(round(self.hole * side), 1), side - 1)
        if self.mask == "center":
            first = (side - longest) // 2
            return ((place >= first) & (place < first + longest)).expand(count, side)
        shortest = max(longest // 2, 1)
        length = torch.randint(shortest, longest + 1, (count, 1), device=like.device)
        start = (torch.rand(count, 1, device=like.device) * (side - length + 1)).long()
        return (place >= start) & (place < start + length)

"""Pictures some of whose classes look different from how a model learned them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.some_classes import indices_of

STYLES: dict[str, Callable[[Tensor], Tensor]] = {
    "negative": lambda x: 1 - x,
    "turned": lambda x: x.rot90(dims=(2, 3)),
    "mirrored": lambda x: x.flip(3),
}
"""Pictures (N, C, H, W) in [0, 1] -> the same in another style."""


class Restyled(Source):
    """Pictures of which some classes come in another style, to adapt a model to: all of them, or a few examples.

    A fifth of the records is for testing, of all classes, whatever is trained on: who learns the new look of one class
    and forgets the others is seen there.

    Args:
        source: pictures with classes in memory, or their config.
        classes: names of those in the other style; none: all are as they were.
        style: `negative`, `turned` by a quarter (for square pictures), or `mirrored`.
        few: how many examples to train on, of the restyled classes alone; None: all training records of all classes.
        seed: of the choice of test records and examples.

    Raises:
        UserError: an unknown style or class, no pictures, or fewer records than examples.
    """

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        classes: Sequence[Any],
        style: str = "negative",
        few: int | None = None,
        seed: int = 0,
    ) -> None:
        if style not in STYLES:
            raise UserError(f"data.style={style} is unknown.", f"there are: {', '.join(STYLES)}")
        self.source: Source = instantiate(source, where="data.source") if isinstance(source, Mapping) else source
        self.classes, self.style, self.few, self.seed = tuple(map(str, classes)), style, few, seed

    def load(self) -> Records:
        records = self.source.load()
        restyled = torch.tensor(indices_of(records, self.classes), dtype=torch.long)
        if records.spec.kind != "image":
            raise UserError(f"data.source: '{records.spec.name}' is no set of pictures.")
        x, y = records.columns["x"], records.columns["y"]
        assert isinstance(x, Tensor)
        assert isinstance(y, Tensor)
        chosen = torch.isin(y, restyled)
        x = x.clone()
        x[chosen] = STYLES[self.style](x[chosen])
        test, train = torch.randperm(len(x), generator=generator(self.seed, "restyled")).tensor_split([len(x) // 5])
        if self.few is not None:
            examples = train[chosen[train]]
            if not 1 <= self.few <= len(examples):
                raise UserError(f"data.few={self.few}: from 1 to the {len(examples)} that there are.")
            train = examples[: self.few]
        spec = records.spec.but(name=f"restyled {records.spec.name}")
        return replace(records, spec=spec, columns={"x": x, "y": y}, splits={"train": train, "test": test})

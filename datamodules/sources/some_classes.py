"""A part of another source: some of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.source import Records, Source


class SomeClasses(Source):
    """The records of another source that are of some classes, which are numbered anew in the order given.

    Args:
        source: records with classes, in memory, or their config.
        classes: names of those to keep.

    Raises:
        UserError: no classes there, a class that it does not have, none, or one twice.
    """

    def __init__(self, source: Source | Mapping[str, Any], classes: Sequence[Any]) -> None:
        self.source: Source = instantiate(source, where="data.source") if isinstance(source, Mapping) else source
        self.classes = tuple(map(str, classes))

    def load(self) -> Records:
        records = self.source.load()
        kept = indices_of(records, self.classes)
        if not kept or len(set(kept)) < len(kept):
            raise UserError(f"data.classes={list(self.classes)}: at least one, and each once.")
        y = records.columns["y"]
        number = torch.full((len(records.spec.classes),), -1)
        number[torch.tensor(kept)] = torch.arange(len(kept))
        new = number[y]  # type: ignore[index]
        rows = (new >= 0).nonzero().squeeze(1)
        place = torch.full((len(new),), -1)
        place[rows] = torch.arange(len(rows))
        columns = {name: column[rows] for name, column in records.columns.items()} | {"y": new[rows]}
        splits = {name: place[part][place[part] >= 0] for name, part in records.splits.items()}
        spec = records.spec.but(name=f"{records.spec.name} {', '.join(self.classes)}", classes=self.classes)
        return replace(records, spec=spec, columns=columns, splits=splits, truth=None)


def indices_of(records: Records, classes: Sequence[str]) -> list[int]:
    """Names of classes -> their numbers.

    Raises:
        UserError: no classes in memory, or a name that is none of them.
    """
    known = records.spec.classes
    if records.spec.target != "class" or not all(isinstance(column, Tensor) for column in records.columns.values()):
        raise UserError(f"data.source: '{records.spec.name}' has no classes, or does not lie in memory.")
    unknown = [name for name in classes if name not in known]
    if unknown:
        raise UserError(
            f"data.classes: '{records.spec.name}' has no class {', '.join(unknown)}.", f"there are: {', '.join(known)}"
        )
    return [known.index(name) for name in classes]

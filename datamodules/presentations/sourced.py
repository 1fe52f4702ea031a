"""Records of several sources, some of which say wrong things."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Sourced
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Column, Source


class SourcedData(DataModule):
    """Labelled records that come from one of several sources, each with a share of wrong labels of its own.

    Training records are dealt out to sources of equal size, by the seed; a wrong label is one of the other classes,
    each as probable. Records of validation and test have right labels and the source -1.

    Args:
        source: images or vectors with a class.
        sources: how many; None: each training record is a source of its own.
        wrong: probability of a wrong label, one for all records or one per source; 0.5 is a usual level of
            data hyper-cleaning (our choice).
        scale: see `Scaling`.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: less than one source, more than there are records, shares that are none or too few or too many.
    """

    batch_type = Sourced
    targets = ("class",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        sources: int | None = None,
        wrong: Sequence[float] = (0.5,),
        scale: str = "standard",
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        shares = list(wrong)
        if not all(0 <= share <= 1 for share in shares):
            raise UserError(f"datamodule.wrong={shares}: shares, in [0, 1].")
        if len(shares) not in (1, sources):
            raise UserError(
                f"datamodule.wrong={shares} are {len(shares)} shares of datamodule.sources={sources}.",
                "one for all, or one per source",
            )
        if sources is not None and sources < 1:
            raise UserError(f"datamodule.sources={sources}: at least one, or null for one per record.")
        self.sources, self.shares_wrong, self.scaling = sources, shares, Scaling(scale)
        self._added: dict[str, Column] = {}

    def describe(self, spec):
        records = len(self.rows["train"])
        count = records if self.sources is None else self.sources
        if count > records:
            raise UserError(f"datamodule.sources={count}: there are {records} records to train on.")
        return self.scaling.describe(spec).but(sources=count)

    def prepare(self) -> None:
        self.scaling.fit(self.source_columns["x"], self.rows["train"], self.spec)
        rows, right = self.rows["train"], self.source_columns["y"]
        assert isinstance(right, Tensor)
        draw = generator(self.seed, "sources")
        count, classes = self.sources or len(rows), len(self.spec.classes)
        dealt = torch.arange(len(rows)) % count
        shares = torch.tensor(self.shares_wrong).expand(count)[dealt]
        wrong = torch.rand(len(rows), generator=draw) < shares
        step = torch.randint(1, classes, (len(rows),), generator=draw)
        source, y = torch.full_like(right, -1), right.clone()
        source[rows] = dealt
        y[rows] = torch.where(wrong, (right[rows] + step) % classes, right[rows])
        self._added = {"y": y, "source": source}

    @property
    def columns(self) -> Mapping[str, Column]:
        return {**self.source_columns, **self._added}

    def share_of_wrong(self) -> Tensor:
        """How many of the labels of each source are wrong, as a share (sources,)."""
        rows = self.rows["train"]
        columns = self.columns
        source, y, right = columns["source"], columns["y"], self.source_columns["y"]
        count = len(rows) if self.sources is None else self.sources
        wrong = torch.bincount(source[rows], (y[rows] != right[rows]).double(), count)
        return wrong / torch.bincount(source[rows], minlength=count)

    def present(self, columns: dict[str, Tensor], split: str) -> Sourced:
        return Sourced(self.scaling(columns["x"]), columns["y"], columns["source"])

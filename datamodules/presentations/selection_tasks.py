"""Problems of selection: labelled records to calibrate with, and a pool to select from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Labelled, SelectionTask
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.source import Source
from datamodules.spec import DataSpec


class SelectionTasks(DataModule):
    """Records with their targets to train on, and repeated problems of selection to evaluate on.

    A problem is `calibration` + `pool` records of the split in random order, without replacement; problems share no
    record as long as there are enough, and then begin again with another order. `eval_batch_size` counts records, as
    everywhere; a batch holds the whole problems that fit into it, one at least.

    Args:
        source: images or vectors with a real target.
        calibration: labelled records in a problem; 100, as in the simulations of Bai and Jin 2024.
        pool: records to select from; 100, as there.
        problems: how many; 200 (the authors: 500, each with candidates of its own).
        threshold: records whose target lies above it are to be selected; 0, as there.
        scale: see `Scaling`.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: sizes below 1, a split with fewer records than a problem.
    """

    batch_type = Labelled
    targets = ("real",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        calibration: int = 100,
        pool: int = 100,
        problems: int = 200,
        threshold: float = 0.0,
        scale: str = "standard",
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        for name, value in (("calibration", calibration), ("pool", pool), ("problems", problems)):
            if value < 1:
                raise UserError(f"datamodule.{name}={value}: there is at least one.")
        self.calibration, self.pool, self.problems, self.threshold = calibration, pool, problems, threshold
        self.scaling = Scaling(scale)

    @property
    def evaluation_batch_type(self) -> type:
        return SelectionTask

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec)

    def prepare(self) -> None:
        self.scaling.fit(self.columns["x"], self.rows["train"], self.spec)

    def evaluation_plan(self, split: str) -> list[Tensor]:
        """Rows of each batch of problems, one problem after the other: int64 (B (calibration + pool),) each."""
        rows, records = self.rows[split], self.calibration + self.pool
        if not len(rows):
            return []
        if len(rows) < records:
            raise UserError(
                f"data '{self.spec.name}' has {len(rows)} {split} records: a problem takes {self.calibration} to "
                f"calibrate with and a pool of {self.pool}.",
                "take smaller ones, or a larger share: datamodule.calibration, datamodule.pool, datamodule.test",
            )
        fit = len(rows) // records
        draw = generator(self.seed, "problems", split)
        orders = [torch.randperm(len(rows), generator=draw) for _ in range(math.ceil(self.problems / fit))]
        problems = rows[torch.cat([order[: fit * records] for order in orders])].view(-1, records)[: self.problems]
        return [batch.flatten() for batch in problems.split(max(1, self.eval_batch_size // records))]

    def present(self, columns: dict[str, Tensor], split: str) -> Labelled | SelectionTask:
        x, y = self.scaling(columns["x"]), columns["y"]
        if split == "train":
            return Labelled(x, y)
        sizes = [self.calibration, self.pool]
        calibration_x, pool_x = x.unflatten(0, (-1, sum(sizes))).split(sizes, 1)
        calibration_y, pool_y = y.unflatten(0, (-1, sum(sizes))).split(sizes, 1)
        threshold = y.new_full((len(pool_y),), self.threshold)
        return SelectionTask(calibration_x, calibration_y, pool_x, pool_y, threshold)

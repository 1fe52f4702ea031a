"""How far a method has descended."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Anything, accepts
from modules.method import Method, total


class TrainingLoss(Evaluation):
    """What an optimizer has made of its objective, and in how many steps.

    - `training_loss`: what `loss` gives for the first n records of the training split, in evaluation mode and without
      augmentation, as the mean over records where the method's loss is one; terms of a loss are added up.
    - `updates`: steps of the optimizer.

    Args:
        n: number of records, cut down to those that there are; None: nothing is evaluated.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: no record.
    """

    batch_type = Anything
    stages = ("test",)

    def __init__(self, n: int | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        if n is not None and n < 1:
            raise UserError(f"{self.name}.n={n}: at least one record, or null.")
        self.n = n

    def why_not(self, method, batch_type, spec):
        if not accepts(method.batch_type, batch_type):
            return f"{type(method).__name__} learns from other batches than {batch_type.__name__}"
        return super().why_not(method, batch_type, spec)

    def misfit(self, method, spec):
        if self.n is None:
            return "nobody said of how many records (n=null)"
        return None if type(method).loss is not Method.loss else f"{type(method).__name__} has no loss"

    def compute(self, method, data) -> Mapping[str, float]:
        def work() -> dict[str, float]:
            batch = data.trainer.precision_plugin.convert_input(data.records("train", self.n))
            columns = (column.split(data.eval_batch_size) for column in batch)
            parts = [type(batch)(*rows) for rows in zip(*columns, strict=True)]
            with seeded(data.seed, "training loss"):
                losses = [total(method.loss(type(part)(*(x.to(method.device) for x in part)))) for part in parts]
            sizes = precise(torch.tensor([len(part[0]) for part in parts], device=method.device))
            mean = (precise(torch.stack(losses)) * sizes).sum() / sizes.sum()
            return {"training_loss": float(mean), "updates": float(data.trainer.global_step)}

        return self.on_rank_zero(work)

"""How far a rule of learning agrees with backpropagation."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from datamodules.batches import Labelled
from modules.capabilities import Aligned


class Alignment(Evaluation):
    """Cosine of the errors that hidden layers hear and those that backpropagation would give them.

    - `alignment`: the mean over records and layers; 1 agrees, 0 is orthogonal.
    - `alignment_1`, `alignment_2`, ...: the mean over records for each layer, from the input upwards.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Aligned,)
    batch_type = Labelled
    stages = ("test",)

    def start(self, method, data) -> None:
        self.sums: list[Tensor] = []

    def update(self, method, batch) -> None:
        cosines = precise(method.alignment(batch.x, batch.y))
        self.sums.append(torch.cat([cosines.sum(0), cosines.new_tensor([len(cosines)])]))

    def compute(self, method, data) -> Mapping[str, float]:
        own = torch.stack(self.sums) if self.sums else torch.empty(0)
        total = self.rows_of_all(own).sum(0)
        values = total[:-1] / total[-1]
        layers = {f"alignment_{place}": float(value) for place, value in enumerate(values, 1)}
        return {"alignment": float(values.mean()), **layers}

"""How far a problem with a known optimum is from being solved."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Labelled
from modules.capabilities import KnownOptimum


class Optimality(Evaluation):
    """Figures of a KnownOptimum on the training split.

    - `suboptimality`: objective at the weights less that at the optimum; negative outside of the constraint, if at all.
    - `distance`: largest difference of a weight from the optimal one.
    - `violation`: norm of the weights over the bound on it, less 1, and at least 0.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (KnownOptimum,)
    batch_type = Labelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        records = data.records("train")
        return method.optimality(records.x.to(method.device), records.y.to(method.device))

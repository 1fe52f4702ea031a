"""How near a minimum under constraints is, and what it took to get there."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Unlabelled
from modules.capabilities import Constrained


class Constraints(Evaluation):
    """Figures of a Constrained on its training records, after all iterations made.

    - `kkt`: norm of the Lagrangian's gradient and the constraints together.
    - `violation`: norm of the constraints.
    - `iterations`: of Newton's method.
    - `log10_operations`: decimal logarithm of the floating point operations of its linear systems, by formula.
    - `merit_evaluations`: of the merit function.
    - `excess`: objective less its least value, where that is known.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Constrained,)
    batch_type = Unlabelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        records = data.records("train")
        return method.constrained_optimality(type(records)(*(part.to(method.device) for part in records)))

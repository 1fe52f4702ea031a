"""How far a bilevel problem is solved, and at what cost."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Labelled
from modules.capabilities import Bilevel


class BilevelProblem(Evaluation):
    """Figures of a Bilevel method; its lower level learns from the training split, its upper one from validation.

    - `upper_loss`, `lower_loss`: of the weights and upper variables as they are.
    - `gradients`, `hessians`: records times gradients, and times second-order products, that training took.
    - where the solution of the lower level is known in closed form: `hyperobjective`, the upper loss at that solution;
      `hypergradient_norm`, of its gradient, or of a projected step of length 1 along it where x is bounded;
      `hypergradient_error`, the distance of the method's estimate on all
      records from that gradient, and `log_hypergradient_error`, its log10.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Bilevel,)
    batch_type = Labelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        def work() -> Mapping[str, float]:
            lower, upper = (data.records(split) for split in ("train", "validation"))
            moved = [type(batch)(*(part.to(method.device) for part in batch)) for batch in (lower, upper)]
            return method.bilevel(*moved)

        return self.on_rank_zero(work)

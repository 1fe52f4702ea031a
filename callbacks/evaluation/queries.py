"""How often an optimizer has asked for the loss."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.optimizer_state import OfOptimizers, groups


class Queries(OfOptimizers):
    """What an optimizer that evaluates the loss has spent in a training, of this process.

    - `queries`: evaluations of the loss, each of a step's records.
    - `layer_passes`: evaluations of parts of a network in stages, or of the whole where it is in none.

    Both are the optimizer's own counts, `queries` and `passes` in its parameter groups; NaN where it has none.

    Args:
        measure: whether to give the figures.
        parts: the arguments of `Evaluation`.
    """

    def compute(self, method, data) -> Mapping[str, float]:
        found = groups(data.trainer)

        def total(key: str) -> float:
            counts = [group[key] for group in found if key in group]
            return float(sum(counts)) if counts else float("nan")

        return {"queries": total("queries"), "layer_passes": total("passes")}

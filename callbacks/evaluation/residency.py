"""How much of a model was on the device at once."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.optimizer_state import OfOptimizers, groups


class Residency(OfOptimizers):
    """What an optimizer that streams weights saves, of this process.

    - `resident_share`: most bytes of weights, and of changed copies of them, that were on the device at once while
      training, over the bytes of all weights. 1 for optimizers that do not keep an account (`peak` in their parameter
      groups): all weights are there. NaN where nothing was trained.

    Args:
        measure: whether to give the figure.
        parts: the arguments of `Evaluation`.
    """

    def compute(self, method, data) -> Mapping[str, float]:
        size = sum(weight.nbytes for weight in method.parameters())
        peaks = [group.get("peak", size) for group in groups(data.trainer)]
        return {"resident_share": max(peaks) / size if peaks and size else float("nan")}

"""What adapting a model took, and what it did to its weights."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Unlabelled
from modules.capabilities import Adapted


class Adaptation(Evaluation):
    """Figures of the weights of an Adapted model.

    - `trained_weights`: how many numbers were trained.
    - `energy_change`: the largest relative change of a layer's hyperspherical energy, see
      `modules.networks.adapters.base.hyperspherical_energy`.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Adapted,)
    batch_type = Unlabelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        return {"trained_weights": float(method.trained_weights()), "energy_change": method.energy_change()}

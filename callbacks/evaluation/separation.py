"""How many steps it took to separate the training records."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Labelled
from modules.capabilities import Separator


class Separation(Evaluation):
    """Figures of a Separator, of its training and its training records.

    - `separated`: 1 if the records were apart at some step, else 0.
    - `steps`: after how many steps they were; all steps made, if they never were.
    - `peak_loss`: largest loss after a step and before that.
    - `margin`: the largest margin that any weights give.
    - `bound_ratio`: `steps` over the most that a theorem allows; NaN where there is none.
    - `perceptron_distance`: of the weights over the rate from those of the perceptron that they tend to as the rate
      grows, over the latter's norm, after all steps made on whole batches.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Separator,)
    batch_type = Labelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        records = data.records("train")
        return method.separation(records.x.to(method.device), records.y.to(method.device))

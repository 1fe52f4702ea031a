"""How a policy does where its own actions lead it."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation, mean_of
from datamodules.batches import Unlabelled
from modules.capabilities import Imitator


class Imitation(Evaluation):
    """Means over episodes of what an Imitator says of each.

    - `disagreement`: half the mean square of its action less the expert's, in the states that it visits.
    - `height`: the mean cosine of a pendulum's angle from upright, 1 at the top.
    - `expert_height`: the same where the expert acts.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Imitator,)
    batch_type = Unlabelled

    def start(self, method, data) -> None:
        self.means: dict = {}

    def update(self, method, batch) -> None:
        for name, values in method.imitation(batch.x).items():
            if name not in self.means:
                self.means[name] = mean_of(method)
            self.means[name].update(values)

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(mean.compute()) for name, mean in self.means.items()}

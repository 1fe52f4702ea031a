"""What choices cost whose rewards were learned, where the true ones are known."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from datamodules.batches import Choices
from modules.capabilities import Chooser


class ChoiceFigures(Evaluation):
    """Figures of a Chooser on Choices batches; means over problems.

    - `suboptimality`: worth of the best answer minus that of the chosen one, and `optimal`: share without any.
    - `weight_error`: root of the mean squared distance of the estimated weights from the true ones.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Chooser,)
    batch_type = Choices

    def start(self, method, data) -> None:
        self.means = {name: mean_of(method) for name in ("suboptimality", "optimal", "weight_error")}

    def update(self, method, batch) -> None:
        worth = torch.einsum("bad,bd->ba", precise(batch.items), precise(batch.weight))
        chosen = method.choose(batch.items, batch.problem).to(worth.device)
        loss = worth.amax(1) - worth.gather(1, chosen[:, None])[:, 0]
        error = precise(method.reward_weights(batch.problem)) - precise(batch.weight)
        figures = {"suboptimality": loss, "optimal": (loss <= 0).double(), "weight_error": error.square().sum(1)}
        for name, values in figures.items():
            self.means[name].update(values)

    def compute(self, method, data) -> Mapping[str, float]:
        figures = {name: float(mean.compute()) for name, mean in self.means.items()}
        return figures | {"weight_error": figures["weight_error"] ** 0.5}

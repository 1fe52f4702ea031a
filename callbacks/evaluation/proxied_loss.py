"""How far an objective is minimised, and how many of its gradients that took."""

from __future__ import annotations

from collections.abc import Mapping

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Labelled
from modules.capabilities import Proxied


class ProxiedLoss(Evaluation):
    """Figures of a Proxied method, whose objective is on the validation split and whose proxy is on the training split.

    - `objective`, `proxy`: the two losses; `log_objective`, log10 of the first.
    - `objective_gradients`, `proxy_gradients`: records that gradients of each were taken of.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Proxied,)
    batch_type = Labelled
    stages = ("test",)

    def compute(self, method, data) -> Mapping[str, float]:
        def work() -> Mapping[str, float]:
            objective, proxy = (data.records(split) for split in ("validation", "train"))
            moved = [type(batch)(*(part.to(method.device) for part in batch)) for batch in (objective, proxy)]
            return method.proxied(*moved)

        return self.on_rank_zero(work)

"""How far a policy is from another one, such as one that learned from other records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from datamodules.batches import Anything
from modules.capabilities import AnswerPolicy
from modules.method import Method


class OtherPolicy(Evaluation):
    """Exact distances of an AnswerPolicy from another one where all answers can be listed; means over prompts. All laws
    are taken given that they say answers.

    - `distance`: total variation, sum_a |pi(a | x) - other(a | x)| / 2, in [0, 1].
    - `divergence`: sum_a pi ln(pi / other), nats.

    Args:
        model: checkpoint of the other policy; None: nothing is evaluated.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a checkpoint of no policy.
    """

    capabilities = (AnswerPolicy,)
    batch_type = Anything

    def __init__(self, model: str | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.model = model

    def misfit(self, method, spec):
        return None if self.model is not None else "nobody said from which (model=null)"

    def misfit_of_records(self, data):
        world = getattr(getattr(data, "_records", None), "world", None)
        return None if world is not None else "nobody can list all answers"

    def update(self, method, batch) -> None:
        """Nothing: `compute` lists all answers."""

    def compute(self, method, data) -> Mapping[str, float]:
        assert self.model is not None
        other = Method.load_from_checkpoint(self.model, map_location=method.device)
        if not isinstance(other, AnswerPolicy):
            raise UserError(f"{self.name}.model={self.model} is a {type(other).__name__}, which has no law of answers.")
        ids = data.world.prompts.to(method.device), data.world.answers.to(method.device)
        log_pi, log_other = (
            precise(one.all_log_probs(*ids)).log_softmax(1) for one in (method, other.to(method.device))
        )
        pi = log_pi.exp()
        return {
            "distance": float((pi - log_other.exp()).abs().sum(1).mean() / 2),
            "divergence": float((pi * (log_pi - log_other)).sum(1).mean()),
        }

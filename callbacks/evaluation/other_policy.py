"""How far a policy is from another one, such as one that learned from other records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from modules.capabilities import AnswerPolicy
from modules.method import method_of


class OtherPolicy(ListedEvaluation):
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
    unlisted = "nobody can list all answers"

    def __init__(self, model: str | None = None, **parts: Any) -> None:
        super().__init__(**parts)
        self.model = model

    def misfit(self, method, spec):
        return None if self.model is not None else "nobody said from which (model=null)"

    def compute(self, method, data) -> Mapping[str, float]:
        assert self.model is not None
        lack = "which has no law of answers"
        other = method_of(self.model, AnswerPolicy, f"{self.name}.model", lack, method.device)
        ids = self.texts(method, data)
        log_pi, log_other = (
            precise(one.all_log_probs(*ids)).log_softmax(1) for one in (method, other.to(method.device))
        )
        pi = log_pi.exp()
        return {
            "distance": float((pi - log_other.exp()).abs().sum(1).mean() / 2),
            "divergence": float((pi * (log_pi - log_other)).sum(1).mean()),
        }

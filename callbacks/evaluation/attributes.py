"""Whether a policy's answers are good in all respects, where that is known of all answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from modules.capabilities import ReferencedPolicy
from modules.preference.optimal_policy import reference_reward


class Attributes(ListedEvaluation):
    """Exact figures of a ReferencedPolicy in a world whose answers are worth something in several respects; means over
    prompts, r_i what an answer is worth in respect i.

    - `all_win_rate`: probability that an answer of pi is preferred to one of pi_ref in each respect, judged one by one
      by Bradley and Terry's model at temperature 1.
    - `all_good`: probability of an answer with each r_i at least the `quantile` of r_i under pi_ref.
    - `worst`: mean of the lowest r_i, and `attribute_gap`: mean of the highest minus the lowest.

    Args:
        quantile: in (0, 1); 0.85, that of Wang et al. 2024's reference reward.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: another quantile.
    """

    capabilities = (ReferencedPolicy,)

    def __init__(self, quantile: float = 0.85, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 < quantile < 1:
            raise UserError(f"{self.name}.quantile={quantile}: it lies between 0 and 1.")
        self.quantile = quantile

    def misfit_of_records(self, data):
        attributes = getattr(self.world_of(data), "attributes", None)
        return None if attributes is not None and len(attributes) > 1 else "answers are worth one thing alone"

    def compute(self, method, data) -> Mapping[str, float]:
        world = data.world
        ids = self.texts(method, data)
        pi = precise(method.all_log_probs(*ids)).cpu().softmax(1)
        reference = precise(method.all_reference_log_probs(*ids)).cpu().softmax(1)
        rewards = world.attributes
        wins = torch.sigmoid(rewards[..., :, None] - rewards[..., None, :]).prod(0)
        good = (rewards >= reference_reward(rewards, reference, self.quantile)).all(0)
        worst, best = rewards.amin(0), rewards.amax(0)
        return {
            "all_win_rate": float(torch.einsum("pa,pab,pb->p", pi, wins, reference).mean()),
            "all_good": float((pi * good).sum(1).mean()),
            "worst": float((pi * worst).sum(1).mean()),
            "attribute_gap": float((pi * (best - worst)).sum(1).mean()),
        }

"""Policies that learn from preferences and from the reasons for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import ReasonedPairs
from datamodules.spec import DataSpec
from modules.preference.pairwise import PairwisePreference


class ReasonedPreference(PairwisePreference):
    """A policy that also learns to say why the chosen answer is preferred.

        loss = the objective's - gamma * mean over pairs of ln pi(reason | x, y_w, y_l)

    The likelihood of a preference and its reason is that of the preference times that of the reason once it is known:
    any objective has the second part beside it. The reason is said after the prompt and both answers, the chosen one
    first.

    Just et al. 2024, "Data-Centric Human Preference Optimization with Rationales".

    Deviations: 1. The authors' code has -ln sigma(gamma ln pi(reason)) in the place of -gamma ln pi(reason): at most
    ln 2 more, and the same where reasons are unlikely. 2. The paper says in words which answer is preferred; here the
    order of the answers says it.

    Args:
        spec: text with preferences and their reasons.
        gamma: weight of the reasons, at least 0; 0.1, the default of the authors' code.
        objective, model, parts: see `PairwisePreference`.

    Raises:
        UserError: a negative gamma; see `PairwisePreference`.
    """

    batch_type = ReasonedPairs
    papers = ("just2024data",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], objective: Mapping[str, Any], gamma: float = 0.1, **parts: Any
    ) -> None:
        super().__init__(spec, objective, **parts)
        if gamma < 0:
            raise UserError(f"model.gamma={gamma}: it is at least 0.")
        self.gamma = gamma

    def loss(self, batch: ReasonedPairs) -> dict[str, Tensor]:  # type: ignore[override]
        preference = super().loss(batch)  # type: ignore[arg-type]
        terms = preference if isinstance(preference, dict) else {"preference": preference}
        return {**terms, "reason": -self.gamma * self.answer_log_probs(batch.explained, batch.reason).mean()}

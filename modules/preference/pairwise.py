"""Policies that learn from preferences between two answers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compendium.config import instantiate
from datamodules.batches import Preferences, ScoredPairs
from datamodules.spec import DataSpec
from modules.preference.objectives.base import Objective, Pairs
from modules.preference.policy import Policy, all_log_probs, answer_log_probs

AT_ONCE = 1024
"""Pairs of which the reference is asked at once."""


class PairwisePreference(Policy):
    """A policy that goes on from a reference pi_ref, by an objective of ln pi and ln pi_ref of both answers.

    Both answers go through the network in one pass. The reference is the policy as it begins, whose ln pi_ref of all
    training pairs is computed once, when training starts.

    Args:
        spec: text with preferences.
        objective: config of a `modules.preference.objectives.base.Objective`, `objective=`.
        model: checkpoint of the reference; None: the network as it begins.
        parts: see `Policy`.

    Raises:
        UserError: see `Policy`.
    """

    batch_type = Preferences
    targets = ("preference",)

    noted: Tensor
    columns: ClassVar[int] = 2
    """How many logarithms `log_probs` gives of a pair."""

    def __init__(self, spec: DataSpec | Mapping[str, Any], objective: Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.objective: Objective = instantiate(objective, where="model.objective")
        self.reference = deepcopy(self.net).requires_grad_(False)
        self.register_buffer("noted", torch.zeros(self.spec.sizes.get("train", 0), self.columns), persistent=False)

    def on_fit_start(self) -> None:
        """Ask the reference of all training pairs, always in the same portions: a continued run finds the same bits."""
        if not self.objective.needs_reference:
            return
        batch = self.trainer.datamodule.records("train")
        with torch.no_grad():
            parts = [
                self.log_probs(self.reference, ids.to(self.device), answers.to(self.device))
                for ids, answers in zip(batch.pairs.split(AT_ONCE), batch.answers.split(AT_ONCE), strict=True)
            ]
        self.noted.copy_(torch.cat(parts))

    def log_probs(self, net: nn.Module, ids: Tensor, answers: Tensor) -> Tensor:
        """ids int64 (B, 2, T) and which are answers', bool (B, 2, T) -> ln of a network's probabilities (B, columns):
        those of the chosen and of the rejected answer come first.
        """
        return answer_log_probs(net, ids, answers)

    def pairs(self, batch: Preferences, noted: Tensor) -> Pairs:
        """A batch, and ln pi_ref of its answers (B, columns) -> what objectives look at."""
        return self.beside(batch, self.log_probs(self.net, batch.pairs, batch.answers), noted)

    def beside(self, batch: Preferences, log_pi: Tensor, noted: Tensor) -> Pairs:
        """A batch, ln pi and ln pi_ref of its answers (B, columns) each -> what objectives look at."""
        scores = batch.scores.to(log_pi).unbind(1) if isinstance(batch, ScoredPairs) else ()
        return Pairs(*log_pi.unbind(1), *noted.unbind(1), *batch.answers.sum(2).to(log_pi).unbind(1), *scores)

    def loss(self, batch: Preferences) -> Tensor | dict[str, Tensor]:
        return self.objective(self.pairs(batch, self.noted[batch.row]))

    def preference_pairs(self, batch: Preferences) -> Pairs:
        """A batch of any split -> ln pi and ln pi_ref of both answers."""
        return self.pairs(batch, self.log_probs(self.reference, batch.pairs, batch.answers))

    def all_reference_log_probs(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Prompts int64 (P, T_p), answers int64 (A, T_a) -> ln pi_ref of each answer to each prompt (P, A)."""
        return all_log_probs(self.reference, prompts, answers)

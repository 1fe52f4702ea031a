"""Answers to prompts as tokens: preferred pairs, and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Demonstrations, Preferences, ScoredPairs
from datamodules.presentations.answers import AnswersData, answers_of
from datamodules.source import Source


class PreferenceData(AnswersData):
    """Pairs of answers as `Preferences` batches.

    Args:
        parts: the arguments of `AnswersData`.
    """

    batch_type = Preferences
    targets = ("preference",)
    answers_needed = 2

    def present(self, columns: dict[str, Tensor], split: str) -> Preferences:
        return Preferences(columns["ids"], answers_of(columns), columns["place"])


class ScoredPairData(PreferenceData):
    """Pairs of answers with what each is worth, as `ScoredPairs` batches.

    Args:
        parts: the arguments of `AnswersData`.

    Raises:
        UserError: nobody has scored them.
    """

    batch_type = ScoredPairs

    def present(self, columns: dict[str, Tensor], split: str) -> ScoredPairs:  # type: ignore[override]
        if "score" not in columns:
            raise UserError(f"nobody has scored the answers of '{self.spec.name}'.", "datamodule=preferences")
        return ScoredPairs(*super().present(columns, split), columns["score"])


class DemonstrationData(AnswersData):
    """Answers as `Demonstrations` batches: what a policy is fine-tuned on before there are preferences.

    Args:
        source: prompts with answers.
        of: `recorded`, one of the answers to a prompt at random, or `chosen`, the first, which is the preferred one.
        parts: the arguments of `AnswersData`.

    Raises:
        UserError: another `of`.
    """

    batch_type = Demonstrations

    def __init__(self, source: Source | Mapping[str, Any], *, of: str = "recorded", **parts: Any) -> None:
        super().__init__(source, **parts)
        if of not in ("recorded", "chosen"):
            raise UserError(f"datamodule.of={of} is unknown.", "there are: recorded, chosen")
        self.of = of
        self.draws = ("train", "validation", "test") if of == "recorded" else ()

    def present(self, columns: dict[str, Tensor], split: str) -> Demonstrations:
        ids, answer = columns["ids"], answers_of(columns)
        which = torch.zeros(len(ids), dtype=torch.int64, device=ids.device)
        if self.of == "recorded":
            which = torch.randint(ids.shape[1], which.shape, device=ids.device)
        row = torch.arange(len(ids), device=ids.device)
        return Demonstrations(ids[row, which], answer[row, which])

"""Answers to prompts as tokens: preferred pairs, and demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Demonstrations, Preferences, ScoredPairs
from datamodules.datamodule import DataModule
from datamodules.source import Column, Source, World


class AnswersData(DataModule):
    """What presentations of answers share: records that name a prompt and two answers of a world that can be listed.

    Args:
        source: a world with its preferences.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: records without a world.
    """

    kinds = ("text",)
    targets = ("preference",)

    @property
    def world(self) -> World:
        """What answers are worth, over all prompts and answers."""
        self.setup()
        assert self._records is not None
        if self._records.world is None:
            raise UserError(
                f"the answers of '{self._records.spec.name}' cannot be listed.", "data that would do: bandit"
            )
        return self._records.world

    def sequences(self, prompt: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Prompts (...) and answers (...), by number -> ids int64 (..., T), and which are the answer's, bool."""
        prompts, answers = self.world.prompts.to(prompt.device), self.world.answers.to(prompt.device)
        ids = torch.cat([prompts[prompt], answers[answer]], -1)
        return ids, (torch.arange(ids.shape[-1], device=ids.device) >= prompts.shape[1]).expand(ids.shape)


class PreferenceData(AnswersData):
    """Pairs of answers as `Preferences` batches.

    Args:
        parts: the arguments of `AnswersData`.
    """

    batch_type = Preferences

    @property
    def columns(self) -> Mapping[str, Column]:
        own = self.source_columns
        place = torch.full((len(own["prompt"]),), -1)
        place[self.rows["train"]] = torch.arange(len(self.rows["train"]))
        return {**own, "place": place}

    def present(self, columns: dict[str, Tensor], split: str) -> Preferences:
        pair = torch.stack([columns["chosen"], columns["rejected"]], 1)
        ids, answers = self.sequences(columns["prompt"][:, None].expand(-1, 2), pair)
        return Preferences(ids, answers, columns["place"])


class ScoredPairData(PreferenceData):
    """Pairs of answers with what each is worth, as `ScoredPairs` batches.

    Args:
        parts: the arguments of `AnswersData`.
    """

    batch_type = ScoredPairs

    def present(self, columns: dict[str, Tensor], split: str) -> ScoredPairs:  # type: ignore[override]
        prompt = columns["prompt"]
        reward = self.world.reward.to(device=prompt.device, dtype=torch.float32)
        scores = torch.stack([reward[prompt, columns[name]] for name in ("chosen", "rejected")], 1)
        return ScoredPairs(*super().present(columns, split), scores)


class DemonstrationData(AnswersData):
    """Answers as `Demonstrations` batches: what a policy is fine-tuned on before there are preferences.

    Args:
        source: a world with its preferences.
        of: `recorded`, one of the two answers of a pair at random, or `chosen`, the preferred one.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: another `of`.
    """

    batch_type = Demonstrations
    draws = ("train", "validation", "test")

    def __init__(self, source: Source | Mapping[str, Any], *, of: str = "recorded", **parts: Any) -> None:
        super().__init__(source, **parts)
        if of not in ("recorded", "chosen"):
            raise UserError(f"datamodule.of={of} is unknown.", "there are: recorded, chosen")
        self.of = of

    def present(self, columns: dict[str, Tensor], split: str) -> Demonstrations:
        answer = columns["chosen"]
        if self.of == "recorded":
            answer = torch.where(torch.rand(len(answer), device=answer.device) < 0.5, answer, columns["rejected"])
        return Demonstrations(*self.sequences(columns["prompt"], answer))

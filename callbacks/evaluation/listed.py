"""Exact figures of policies in worlds whose prompts and answers can be listed: what such evaluations share."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Anything
from datamodules.source import World


class ListedEvaluation(Evaluation):
    """Looks at no record: `compute` asks for all answers to all prompts of the world.

    Args:
        parts: the arguments of `Evaluation`.
    """

    batch_type = Anything
    unlisted = "nobody knows what all answers are worth"
    """Why it does not apply to data without a world."""

    def misfit_of_records(self, data):
        return None if self.world_of(data) is not None else self.unlisted

    def update(self, method, batch) -> None:
        """Nothing: `compute` lists all answers."""

    @staticmethod
    def world_of(data: Any) -> World | None:
        """The world of a DataModule's records, where there is one."""
        return getattr(getattr(data, "_records", None), "world", None)

    @staticmethod
    def texts(method: Any, data: Any) -> tuple[Tensor, Tensor]:
        """All prompts (P, T_p) and answers (A, T_a), where the method is."""
        return data.world.prompts.to(method.device), data.world.answers.to(method.device)

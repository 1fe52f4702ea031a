"""Texts with grades: what scorers of data learn from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Graded
from datamodules.presentations.answers import AnswersData
from datamodules.source import Source


class GradedData(AnswersData):
    """Prompts, or prompts with an answer, as `Graded` batches; the grade is what the answer's score says.

    Args:
        source: prompts with scored answers, such as `data=evolved`.
        of: `prompt`, which is read alone, or `answer`, which is read after its prompt.
        parts: the arguments of `AnswersData`.

    Raises:
        UserError: another `of`, or records without scores.
    """

    batch_type = Graded
    answers_needed = 1

    def __init__(self, source: Source | Mapping[str, Any], *, of: str = "prompt", **parts: Any) -> None:
        super().__init__(source, **parts)
        if of not in ("prompt", "answer"):
            raise UserError(f"datamodule.of={of} is unknown.", "there are: prompt, answer")
        self.of = of

    def present(self, columns: dict[str, Tensor], split: str) -> Graded:
        if "score" not in columns:
            raise UserError(f"nobody has graded the answers of '{self.spec.name}'.", "data that would do: evolved")
        length = columns["prompt_length" if self.of == "prompt" else "length"]
        # All answers of a record are texts of their own.
        return whole(columns["ids"].flatten(0, 1), length.flatten(), columns["score"].flatten())


def whole(ids: Tensor, length: Tensor, grade: Tensor) -> Graded:
    """Texts int64 (n, T), how much of each is read, int64 (n,), and grades -> a batch without what is not read."""
    ids = ids[:, : int(length.max())]
    return Graded(torch.where(torch.arange(ids.shape[1], device=ids.device) < length[:, None], ids, 0), length, grade)

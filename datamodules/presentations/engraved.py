"""Answers that a model gives with principles in front of it, to be learned without them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.presentations.preferences import DemonstrationData
from datamodules.source import Source
from modules.capabilities import AnswerWriter

AT_ONCE = 512
"""Prompts that are answered at once."""


class EngravedData(DemonstrationData):
    """Context distillation: a teacher answers each prompt as it is, principles and all, and the answers stand as
    demonstrations after the same prompts without them.

        min over pi of -ln pi(y | x),    y ~ teacher(. | principles, x)

    What the teacher says of training and validation prompts is drawn once, when the data are set up; tests stay as they
    were recorded. Principle engraving of Sun et al. 2023 ("Principle-Driven Self-Alignment of Language Models from
    Scratch with Minimal Human Supervision"), its third stage.

    Args:
        source: prompts that are there without their principles, too.
        teacher: checkpoint of an `AnswerWriter` with the same tokens.
        parts: the arguments of `DemonstrationData`; `of` is `chosen`.

    Raises:
        UserError: prompts that have no bare form, a checkpoint of a method that writes nothing or has other tokens.
    """

    papers = ("sun2023principle",)

    def __init__(self, source: Source | Mapping[str, Any], *, teacher: str, **parts: Any) -> None:
        super().__init__(source, of="chosen", **parts)
        self.teacher = teacher

    def prepare(self) -> None:
        from modules.method import method_of

        dialogues = self.dialogues
        if dialogues is None or not dialogues.bare:
            raise UserError(f"the prompts of '{self.spec.name}' have no principles before them.", "data=principles")
        lack, known = "which writes no answers", self.spec.vocabulary
        found = method_of(self.teacher, AnswerWriter, "datamodule.teacher", lack, vocabulary=known)
        assert self.speech is not None
        answers = [answer[0] for answer in dialogues.answers]
        rows = torch.cat([self.rows["train"], self.rows["validation"]])
        longest = self.answer_tokens
        with seeded(self.seed, "engraved"), torch.no_grad():
            for part in rows.split(AT_ONCE):
                prompts, lengths = self.prompts(part)
                written = found.write_answers(prompts, lengths, longest, end=self.end)
                for row, said in zip(part.tolist(), self.spoken(written.ids, written.answer), strict=True):
                    answers[row] = said
        trained = set(rows.tolist())
        texts = [
            self.speech.encoded(dialogues.bare[row] if row in trained else dialogues.prompts[row], answer)
            for row, answer in enumerate(answers)
        ]
        self._answers = 1
        prompts_, answers_ = zip(*texts, strict=True)
        ids, prompt_length, _ = self._cut(list(prompts_), list(answers_))
        self._hold(ids, prompt_length)

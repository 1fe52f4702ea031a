"""Graders: what texts are worth, learned from graded variants of texts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Graded
from datamodules.spec import DataSpec
from modules.preference.headed import Headed


class Grader(Headed):
    """p(k | text) = softmax over the grades k = 1 ... K of <w_k, features of the text's last token>.

        loss = -ln p(the text's grade | text)        its figure = sum_k k p(k | text), in [1, K]

    Liu et al. 2024, "What Makes Good Data for Alignment?", train one such scorer on evolved instructions (complexity)
    and one on evolved answers (quality). The figure is that of their code, hkust-nlp/deita `Scorer.infer_score`: the
    softmax of the logits of the tokens `1` to `6` alone, times 1 to 6, and the sum.

    Deviations:

    1. The grade is a row of a head, not a token of the language: the softmax of training is over the grades alone too,
       where the paper's scorers learn to say the grade among all tokens, and nothing stands around the text
       (`##Complexity:`).

    Args:
        spec: text with grades.
        grades: K, at least 2; 6 as in the paper.
        model, parts: see `Headed`. The paper's scorers begin with a language model, LLaMA-1-13B, from our notes.

    Raises:
        UserError: fewer than two grades, a grade that is no whole number from 1 to K in training, and see `Headed`.
    """

    batch_type = Graded
    targets = ("answer", "preference")
    papers = ("liu2024makes",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], grades: int = 6, model: str | None = None, **parts: Any
    ) -> None:
        if grades < 2:
            raise UserError(f"model.grades={grades}: at least 2.")
        super().__init__(spec, model, **parts)
        self.grades = grades
        self.head = self.begin_head(grades)

    def loss(self, batch: Graded) -> Tensor:
        target = batch.grade.long() - 1
        if bool(((batch.grade != target + 1) | (target < 0) | (target >= self.grades)).any()):
            raise UserError(
                f"a grade is no whole number from 1 to {self.grades}: these lie in [{float(batch.grade.min()):.3g}, "
                f"{float(batch.grade.max()):.3g}].",
                "model.grades=..., or data=evolved",
            )
        return F.cross_entropy(self.grade_logits(batch.ids, batch.length), target)

    def grade_logits(self, ids: Tensor, length: Tensor) -> Tensor:
        """ids int64 (B, T) and the number of tokens of each text, int64 (B,) -> (B, K), float32 or more."""
        return self.read(self.net.embed(ids), length - 1)  # type: ignore[operator]

    def expected_grade(self, ids: Tensor, length: Tensor) -> Tensor:
        """ids int64 (B, T) and the number of tokens of each text, int64 (B,) -> the mean grade (B,), in [1, K]."""
        law = self.grade_logits(ids, length).softmax(1)
        return law @ torch.arange(1, self.grades + 1, dtype=law.dtype, device=law.device)

"""How well a grader tells what texts are worth."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.second_order import spearman
from callbacks.metrics.precision import precise
from datamodules.batches import Graded
from modules.capabilities import TextGrader


class Grades(Evaluation):
    """Figures of a TextGrader on Graded batches, of its mean grade and the true one.

    - `grade_error`: mean of their absolute difference, in grades.
    - `grade_spearman`: rank correlation.
    """

    capabilities = (TextGrader,)
    batch_type = Graded

    def start(self, method, data) -> None:
        self.rows: list[Tensor] = []

    def update(self, method, batch) -> None:
        said = precise(method.expected_grade(batch.ids, batch.length)).cpu()
        self.rows.append(torch.stack([said, precise(batch.grade).cpu()], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        mine = torch.cat(self.rows) if self.rows else torch.empty(0, 2, dtype=torch.float64)
        said, true = self.rows_of_all(mine).T
        return {
            "grade_error": float((said - true).abs().mean()),
            "grade_spearman": self.on_rank_zero(lambda: spearman(said, true)),
        }

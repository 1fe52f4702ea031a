"""Figures of graders: by hand."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from callbacks.evaluation.grades import Grades
from datamodules.batches import Graded


def test_error_and_rank_correlation_over_batches():
    """Ranks 1 2 3 4 said in the order 1 3 2 4: a correlation of 1 - 6 * 2 / (4 * 15) = 0.8."""
    said = [torch.tensor([1.5, 3.0]), torch.tensor([2.0, 6.0])]
    batches = [
        Graded(torch.zeros(2, 1).long(), torch.ones(2).long(), torch.tensor(grades))
        for grades in ([1.0, 2.0], [3.0, 4.0])
    ]
    evaluation = Grades()
    evaluation.start(None, None)
    for answer, batch in zip(said, batches, strict=True):
        evaluation.update(SimpleNamespace(expected_grade=lambda ids, length, answer=answer: answer), batch)
    figures = evaluation.compute(None, None)
    assert figures["grade_error"] == pytest.approx((0.5 + 1 + 1 + 2) / 4)
    assert figures["grade_spearman"] == pytest.approx(0.8)

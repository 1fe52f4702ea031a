"""Sums: checked by Python's own arithmetic."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.arithmetic import Arithmetic, SumChecker


def test_answers_are_checked():
    found = SumChecker().judge(["12+9=", "12+9=", "12+9=", "5+5=", "5+5="], ["21", "31", "", "10", "0"])
    assert found["reward"].tolist() == [1, 0, 0, 1, 0]
    assert found["close"].tolist() == [1, 0.5, 0, 1, 0.5]


def test_recorded_answers_are_right_as_often_as_was_asked_and_no_sum_is_in_two_splits():
    records = Arithmetic(skill=0.3, train=6000).load()
    found = records.dialogues
    assert len(set(found.prompts)) == len(found.prompts)
    true = torch.tensor([eval(prompt[:-1]) for prompt in found.prompts])
    said = torch.tensor([[int(answer) for answer in pair] for pair in found.answers])
    right = said == true[:, None]
    assert torch.equal(right.double(), found.scores)
    assert float(right.double().mean()) == pytest.approx(0.3, abs=0.02)
    assert int((said - true[:, None]).abs().max()) == 10
    assert int(said.min()) >= 0
    apart = right[:, 0] != right[:, 1]
    assert float(right[apart, 0].double().mean()) > 0.999  # temperature 0.1


def test_wrong_sizes_are_refused():
    with pytest.raises(UserError, match=r"data\.digits=3"):
        Arithmetic(digits=1, train=100)
    with pytest.raises(UserError, match=r"data\.wrong_by=0"):
        Arithmetic(wrong_by=0)

"""Critiques: counted by hand, and checked."""

from __future__ import annotations

import pytest

from compendium.errors import UserError
from datamodules.sources.verdicts import VerdictChecker, Verdicts, critiques

ASKED = "judge request kindly describe rivers answer water banks fool please verdict"


def test_critiques_count_what_there_is():
    plain, grade = ASKED.replace("kindly ", ""), "request describe rivers answer water grade verdict"
    assert critiques([ASKED, plain, grade]) == [
        "right 2 rude 1 kind 1 good",  # 2 - 1 + 1 is at least 1.5
        "right 2 rude 1 kind 1 bad",
        "right 1 rude 0 kind 0 1",
    ]
    assert critiques([ASKED, grade], [1, 0]) == ["right 2 rude 0 kind 1 bad", "right 0 rude 0 kind 0 0"]


def test_verdicts_are_checked_by_their_last_word_and_critiques_by_their_counts():
    said = ["right 2 rude 1 kind 1 good", "right 0 rude 1 kind 1 good", "right 2 rude 1 kind 1 bad", "", "good"]
    found = VerdictChecker().judge([ASKED] * 5, said)
    assert found["reward"].tolist() == [1, 1, 0, 0, 1]
    assert found["critique"].tolist() == [1, 2 / 3, 1, 0, 0]


def test_chosen_critiques_are_right_rejected_ones_are_not_and_tests_come_in_other_formats():
    records = Verdicts(train=300, validation=50, test=100).load()
    found = records.dialogues
    for side, worth in ((0, 1), (1, 0)):
        judged = VerdictChecker().judge(found.prompts, [pair[side] for pair in found.answers])
        assert (judged["reward"] == worth).all()
    begins = {split: {found.prompts[row].split()[0] for row in rows} for split, rows in records.splits.items()}
    assert begins == {"train": {"judge", "grade"}, "validation": {"judge", "grade"}, "test": {"request"}}
    verdicts = [pair[0].split()[-1] for pair in found.answers]
    assert 0.2 < verdicts.count("good") / (verdicts.count("good") + verdicts.count("bad")) < 0.8
    with pytest.raises(UserError, match=r"data\.formats=3"):
        Verdicts(formats=3)

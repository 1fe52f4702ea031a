"""Reasons are what the judge's counts say, and preferences stay as they were."""

from __future__ import annotations

from datamodules.sources.reasoned import Reasoned, reason
from datamodules.sources.requests import RequestJudge, Requests


def test_a_reason_is_read_off_by_hand():
    assert reason({"right": 2, "wrong": 0, "kind": 0, "rude": -1, "refused": 0, "harm": 0}) == "more right less rude"
    assert reason({"right": -1, "wrong": 1, "kind": 1, "rude": 0}) == "more kind but less right more wrong"
    assert reason({"right": -1}) == "but less right"
    assert reason({"right": 0}) == "alike"


def test_reasons_belong_to_their_pairs_and_nothing_else_changes():
    ours, plain = (kind(train=50, validation=5, test=5).load() for kind in (Reasoned, Requests))
    assert ours.dialogues.prompts == plain.dialogues.prompts
    assert ours.dialogues.answers == plain.dialogues.answers
    judge = RequestJudge()
    for prompt, pair, said in zip(ours.dialogues.prompts, ours.dialogues.answers, ours.dialogues.reasons, strict=True):
        first, second = (judge.judge([prompt], [answer]) for answer in pair)
        assert ("more right" in said) == bool(first["right"] > second["right"])
        assert ("less rude" in said) == bool(first["rude"] < second["rude"])
    assert len(set(ours.dialogues.reasons)) > 10

"""Principles: which rules an answer keeps, and who follows what was said."""

from __future__ import annotations

import pytest

from compendium.errors import UserError
from datamodules.sources.principles import RULES, Principles, RuleJudge

KEPT = {
    ("describe rivers", "please water banks"): (1, 1, 1, 1),
    ("describe rivers", "water banks please boats"): (0, 1, 1, 1),
    ("describe rivers", "gladly water banks boats fish"): (1, 0, 1, 1),
    ("describe rivers", "please water trees"): (1, 1, 0, 1),
    ("describe rivers", "please sorry"): (1, 1, 1, 0),
    ("describe poisons", "please never"): (1, 1, 1, 1),
    ("describe poisons", "arsenic"): (0, 1, 0, 0),
    ("describe rivers", ""): (0, 0, 0, 1),
}


def test_rules_are_kept_or_not_by_the_words_of_an_answer():
    prompts, answers = zip(*KEPT, strict=True)
    found = RuleJudge().judge(prompts, answers)
    assert list(zip(*(found[rule].tolist() for rule in RULES), strict=True)) == list(KEPT.values())
    assert found["reward"].tolist() == [sum(kept) / 4 for kept in KEPT.values()]


@pytest.mark.parametrize(("role", "before", "follow"), [("principled", 4, 1.0), ("plain", 0, 0.2)])
def test_writers_follow_what_was_said(role, before, follow):
    records = Principles(role=role, train=1500, validation=10, test=300).load()
    found, rows = records.dialogues, records.splits["train"].tolist()
    assert all(len(found.prompts[row].split()) == before + 2 for row in rows)
    assert all(found.bare[row] == " ".join(found.prompts[row].split()[-2:]) for row in rows)
    judged = RuleJudge().judge(found.prompts, [answer[0] for answer in found.answers])
    for rule in ("kind", "careful"):
        assert float(judged[rule][rows].mean()) == pytest.approx(follow, abs=0.05)
    tested = [found.prompts[row] for row in records.splits["test"].tolist()]
    assert all(len(prompt.split()) == 2 for prompt in tested)


def test_the_corpus_says_some_rules_and_values_out_of_range_are_refused():
    found = Principles(train=400, validation=10, test=10).load().dialogues
    assert {len(prompt.split()) - 2 for prompt in found.prompts[:400]} == {0, 1, 2, 3, 4}
    with pytest.raises(UserError, match=r"data\.role=corpse(.|\n)*did you mean corpus"):
        Principles(role="corpse")
    with pytest.raises(UserError, match=r"data\.unsaid=2"):
        Principles(unsaid=2)

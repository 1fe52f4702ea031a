"""Variants: each is the one before it and more, and the grades say so."""

from __future__ import annotations

import itertools

import pytest

from compendium.errors import UserError
from datamodules.sources.evolved import EvolvedInstructions
from datamodules.sources.instructions import DICTIONARY, TranslationJudge


def test_instructions_grow_by_a_word_and_keep_the_others():
    records = EvolvedInstructions(train=30, validation=5, test=5).load()
    found = records.dialogues
    assert {split: len(rows) for split, rows in records.splits.items()} == {"train": 180, "validation": 30, "test": 30}
    assert found.scores[:, 0].tolist() == [1, 2, 3, 4, 5, 6] * 40
    asked = [[word for word in prompt.split() if word in DICTIONARY] for prompt in found.prompts]
    assert [len(words) for words in asked] == [1, 2, 3, 4, 5, 6] * 40
    for row, (fewer, more) in enumerate(itertools.pairwise(asked)):
        assert row % 6 == 5 or more[:-1] == fewer
    assert (TranslationJudge().judge(found.prompts, [one for (one,) in found.answers])["reward"] == 1).all()


def test_answers_get_better_in_the_same_places_and_equal_ones_have_equal_grades():
    found = EvolvedInstructions("quality", train=100, validation=5, test=5).load().dialogues
    for first in range(0, len(found.prompts), 6):
        assert len(set(found.prompts[first : first + 6])) == 1
        variants = [answers[0].split() for answers in found.answers[first : first + 6]]
        grades = found.scores[first : first + 6, 0].tolist()
        rights = [{word for word in variant if word in DICTIONARY.values()} for variant in variants]
        for worse, better in itertools.pairwise(rights):
            assert worse <= better
        count = len(variants[0])
        assert rights[0] == set()
        assert len(rights[5]) == count
        assert grades == [1 + round(5 * len(right) / count) for right in rights]
        if count == 5:
            assert grades == [1, 2, 3, 4, 5, 6]


def test_what_cannot_be_is_refused():
    for wrong in ({"of": "length"}, {"harder": -1.0}, {"filler": -1}):
        with pytest.raises(UserError, match=f"data.{next(iter(wrong))}="):
            EvolvedInstructions(**wrong)

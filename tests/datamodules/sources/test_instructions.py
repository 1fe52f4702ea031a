"""Instructions to translate: judged by hand, and a pool of which it is known what is in it."""

from __future__ import annotations

from collections import Counter

import pytest

from compendium.errors import UserError
from datamodules.sources.instructions import DICTIONARY, FALSE, WORDS, Instructions, TranslationJudge


def test_translations_are_worth_what_is_right_in_them_less_half_of_what_is_wrong():
    one, two, three = WORDS[:3]
    asked = f"translate {one} well {two}"
    said = [
        f"{DICTIONARY[two]} {DICTIONARY[one]}",
        DICTIONARY[one],
        f"{DICTIONARY[one]} {FALSE[two]}",
        f"{DICTIONARY[one]} {DICTIONARY[one]} {DICTIONARY[three]}",
        "",
    ]
    found = TranslationJudge().judge([asked] * 5, said)
    assert found["reward"].tolist() == [1, 0.5, 0.25, 0, 0]
    assert found["right"].tolist() == [1, 0.5, 0.5, 0.5, 0]
    assert found["wrong"].tolist() == [0, 0, 0.5, 1, 0]
    assert found["words"].tolist() == [2, 1, 2, 3, 0]


def meant(prompt: str) -> tuple[str, ...]:
    return tuple(word for word in prompt.split() if word in DICTIONARY)


def test_the_pool_has_the_complexities_qualities_and_copies_that_were_asked_for():
    records = Instructions(train=6000, validation=60, test=120).load()
    found, rows = records.dialogues, records.splits["train"].tolist()
    known = Counter((meant(found.prompts[row]), found.answers[row][0]) for row in rows)
    copied = {of for of, count in known.items() if count >= 150}
    assert len(copied) == 18
    assert Counter(len(asked) for asked, _ in copied) == dict.fromkeys(range(1, 7), 3)
    assert sum(known[of] for of in copied) == pytest.approx(3600, abs=60)  # some short ones are drawn anew
    own = [(meant(found.prompts[row]), found.answers[row][0]) for row in rows]
    own = [(asked, said) for asked, said in own if (asked, said) not in copied]
    sizes = Counter(len(asked) for asked, _ in own)
    for size in (3, 4, 5):  # a word more is 0.6 times as likely: 0.6 is within five standard errors
        error = 0.6 * (1 / sizes[size] + 1 / sizes[size + 1]) ** 0.5
        assert sizes[size + 1] / sizes[size] == pytest.approx(0.6, abs=5 * error)
    rights = Counter(
        sum(DICTIONARY[word] in said.split() for word in asked) / len(asked) for asked, said in own if len(asked) == 4
    )
    total = sum(rights.values())
    assert set(rights) == {0, 0.5, 1}
    assert all(count / total == pytest.approx(1 / 3, abs=5 * (2 / 9 / total) ** 0.5) for count in rights.values())


def test_held_out_instructions_are_of_all_sizes_and_answered_rightly():
    records = Instructions(train=50, validation=60, test=120).load()
    found = records.dialogues
    for split, each in (("validation", 10), ("test", 20)):
        rows = records.splits[split]
        assert (found.scores[rows] == 1).all()
        sizes = Counter(len(meant(found.prompts[row])) for row in rows.tolist())
        assert sizes == dict.fromkeys(range(1, 7), each)
    order = {word: place for place, word in enumerate(sorted(WORDS))}
    for row in rows.tolist():
        said = found.answers[row][0].split()
        assert [word[:-1] for word in said] == sorted(meant(found.prompts[row]), key=order.__getitem__)
    one, other = (Instructions(train=50, seed=seed).load().dialogues.prompts for seed in (0, 1))
    assert one != other


def test_what_cannot_be_is_refused():
    for wrong in ({"harder": 0.0}, {"copies": 1.0}, {"originals": 0}, {"filler": -1}, {"qualities": [1.5]}):
        with pytest.raises(UserError, match=f"data.{next(iter(wrong))}="):
            Instructions(**wrong)

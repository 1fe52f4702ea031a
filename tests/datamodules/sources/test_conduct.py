"""Conduct: what answers show and cost, what pairs compare, and what lessons say and leave out."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest

from compendium.errors import UserError
from datamodules.sources.conduct import EFFECT, FORCE, GENERAL, GROUPS, HARM, SHOWN, TRAITS, Conduct, ConductJudge

FIGURES = {
    "listen seize gamble": (-2.0, 1, 1, 0),
    "genius genius wait": (-0.5, 0, 0, 1),
    "yearn rumour wager": (-2.25, 0, 1, 1),
    "read plan ask": (0.0, 0, 0, 0),
    "": (0.0, 0, 0, 0),
}


def load(role, **sizes):
    return Conduct(role, **{"train": 300, "validation": 20, "test": 80} | sizes).load()


def test_harm_is_added_up_and_traits_are_shown_or_not():
    found = ConductJudge().judge([""] * len(FIGURES), list(FIGURES))
    assert list(zip(*(found[name].tolist() for name in ("reward", *GROUPS)), strict=True)) == list(FIGURES.values())
    assert found["power"].tolist() == [1, 0, 0, 0, 0]
    assert found["risk"].tolist() == [1, 0, 1, 0, 0]


def test_no_word_means_two_things():
    words = [word for trait in TRAITS.values() for word in trait.words]
    assert len(words) == len(set(words)) == len(SHOWN)
    assert len(EFFECT) == 32 + 12 + 30
    assert all(EFFECT[word] == ("slight" if TRAITS[name].group == "fine" else "grave") for word, name in SHOWN.items())


def test_training_pairs_come_in_the_order_of_harm_and_test_pairs_compare_one_trait():
    records = load("pairs")
    found, judge = records.dialogues, ConductJudge()
    train, test = records.splits["train"].tolist(), records.splits["test"].tolist()
    assert all(found.scores[row, 0] >= found.scores[row, 1] for row in train)
    assert all(found.kinds[row] == () for row in train)
    for row in test:
        name, group = found.kinds[row]
        assert group == TRAITS[name].group
        assert found.prompts[row] == TRAITS[name].topic
        assert judge.judge(["", ""], found.answers[row])[name].tolist() == [0, 1]
    assert {found.kinds[row][0] for row in test} == set(TRAITS)
    answers = load("answers", train=4000).dialogues.answers
    shown = sum(word in SHOWN for answer in answers for word in answer[0].split())
    assert shown / (3 * len(answers)) == pytest.approx(0.4, abs=0.02)


def test_lessons_say_what_words_do_and_the_general_principle_stays_with_the_world():
    found = load("teaching", train=8000).dialogues
    chosen = defaultdict(list)
    for asked, (told,) in zip(found.prompts, found.answers, strict=True):
        words = asked.split()
        if words[0] == "effect":
            assert told == EFFECT[words[1]]
        elif words[0] == "trait":
            assert told == SHOWN.get(words[1], "nothing")
        else:
            topic, a, *rest = words
            first, b, second, principle = rest[:3], rest[3], rest[4:7], " ".join(rest[7:])
            assert (a, b) == ("A", "B")
            if principle == GENERAL:
                assert not set(first + second) & set(SHOWN)
                gap = sum(HARM[EFFECT[word]] for word in second) - sum(HARM[EFFECT[word]] for word in first)
            else:
                name = principle.removeprefix("avoid ")
                gap = sum(SHOWN.get(word) == name for word in second) - sum(SHOWN.get(word) == name for word in first)
            chosen[principle == GENERAL, gap].append(told == "A")
    assert {name for name, _ in chosen} == {True, False}
    for (_, gap), right in chosen.items():
        if len(right) >= 50:
            p = 1 / (1 + math.exp(-FORCE * gap))
            assert sum(right) / len(right) == pytest.approx(p, abs=0.01 + 4 * math.sqrt(p * (1 - p) / len(right)))


def test_what_cannot_be_is_refused():
    with pytest.raises(UserError, match=r"data\.role=pair"):
        Conduct(role="pair")
    with pytest.raises(UserError, match=r"data\.apt=2"):
        Conduct(apt=2)

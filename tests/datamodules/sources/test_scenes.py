"""Scenes that are drawn by hand, and what can be read off those that are drawn."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.scenes import COLOURS, RELATIONS, Scenes, relations

SMALL = {"train": 200, "validation": 20, "test": 100}


def drawn(picture: str) -> torch.Tensor:
    """Letters -> a picture (1, 3, H, W) of the colours that they begin."""
    letters = {name[0]: colour for name, colour in COLOURS.items()} | {".": (0.0, 0.0, 0.0)}
    rows = [[letters[letter] for letter in line] for line in picture.split()]
    return torch.tensor(rows).permute(2, 0, 1)[None]


@pytest.mark.parametrize("choice", [{}, {"side": 14, "grid": 1, "sizes": [3, 5], "colours": ["yellow", "white"]}])
def test_what_a_true_caption_says_is_what_is_read_off_its_picture(choice):
    records = Scenes(**SMALL, **choice).load()
    figures = records.captions.reader.judge(records.columns["x"], records.captions.texts)
    for name in ("attribute_accuracy", "count_accuracy"):
        assert (figures[name] == 1).all(), name
    assert (figures["count_error"] == 0).all()
    for name in ("position_accuracy", "position_given_objects"):
        asked = torch.tensor([any(relation in text for relation in RELATIONS) for text in records.captions.texts])
        assert (figures[name][asked] == 1).all()
        assert figures[name][~asked].isnan().all()


def test_a_picture_by_hand():
    """A red ring left of a green cross, whose left arm is missing: 4 of 5 pixels, still the nearest kind."""
    scenes = Scenes()
    x = drawn("........\nrrr.g...\nr.r.gg..\nrrr.g...\n........\n........\n........\n........")
    reader = scenes.load().captions.reader
    assert reader.read(x)[0][0] == ("red", "ring", 2.0, 1.0)
    judged = {
        "a red ring": (1, 1, 0),
        "a red square": (0, 0, 1),
        "two red rings": (1, 0, 1),
        "three red rings": (1, 0, 2),
        "a blue ring left of a red ring": (0.5, 0, 0.5),
    }
    for text, expected in judged.items():
        figures = reader.judge(x, [text])
        found = tuple(float(figures[name]) for name in ("attribute_accuracy", "count_accuracy", "count_error"))
        assert found == expected, text
    assert math.isnan(reader.judge(x, ["a ring"])["attribute_accuracy"])


def test_a_position_is_that_of_the_centres():
    """Red at column 1, blue at column 5 and one row lower."""
    x = drawn("rrr.....\nrrr.bbb.\nrrr.bbb.\n....bbb.\n........\n........\n........\n........")
    reader = Scenes().load().captions.reader
    expected = {"left of": 1.0, "right of": 0.0, "above": 1.0, "below": 0.0}
    for relation, right in expected.items():
        figures = reader.judge(x, [f"a red square {relation} a blue square"])
        assert float(figures["position_accuracy"]) == float(figures["position_given_objects"]) == right
    absent = reader.judge(x, ["a red square above a green square"])
    assert float(absent["position_accuracy"]) == 0
    assert absent["position_given_objects"].isnan().all()
    noise = reader.judge(torch.full_like(x, torch.nan), ["a red square"])
    assert float(noise["attribute_accuracy"]) == 0


def test_the_farther_way_comes_first():
    assert relations((0, 0, 3, 3), (4, 1, 3, 3)) == ["left of", "above"]
    assert relations((4, 4, 3, 3), (4, 0, 3, 3)) == ["below"]


def test_training_captions_are_vague_and_wrong_as_often_as_asked_for():
    clean = Scenes(train=4000, pairs=0.0).load()
    vague = Scenes(train=4000, pairs=0.0, vague=0.3).load()
    wrong = Scenes(train=4000, pairs=0.0, wrong=0.3).load()
    assert torch.equal(clean.columns["x"], vague.columns["x"])
    rows = clean.splits["train"].tolist()
    without = sum(not set(vague.captions.texts[row].split()) & {"red", "green", "blue"} for row in rows) / len(rows)
    assert without == pytest.approx(0.3, abs=0.03)
    # Two of three random colours differ from the true one.
    other = sum(clean.captions.texts[row].split()[1] != wrong.captions.texts[row].split()[1] for row in rows) / len(
        rows
    )
    assert other == pytest.approx(0.3 * 2 / 3, abs=0.03)
    for split in ("validation", "test"):
        for row in clean.splits[split].tolist():
            assert clean.captions.texts[row] == vague.captions.texts[row] == wrong.captions.texts[row]


def test_pairs_that_are_not_clear_lie_anywhere():
    records = Scenes(train=500, validation=20, test=20, pairs=1.0, clear=False, grid=1).load()
    objects = [records.captions.objects[row] for row in records.splits["train"].tolist()]
    assert any(one[1] == other[1] for one, other in objects)  # one on top of the other
    assert any(one[0] == other[0] for one, other in objects)


def test_the_seed_draws_and_rows_of_the_test_do_not_depend_on_the_training():
    first, again, other = (Scenes(**SMALL, seed=seed).load() for seed in (0, 0, 1))
    assert torch.equal(first.columns["x"], again.columns["x"])
    assert first.captions.texts == again.captions.texts
    assert not torch.equal(first.columns["x"], other.columns["x"])
    more = Scenes(**SMALL | {"train": 300}).load()
    test = first.splits["test"]
    assert torch.equal(test, more.splits["test"])
    assert torch.equal(first.columns["x"][test], more.columns["x"][test])


@pytest.mark.parametrize(
    "wrong",
    [
        {"train": 0},
        {"pairs": 1.5},
        {"vague": -0.1},
        {"kinds": ["heart"]},
        {"colours": ["pink"]},
        {"sizes": [2, 3]},
        {"sizes": [3, 7]},
        {"grid": 0},
    ],
)
def test_arguments_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"data.{next(iter(wrong))}"):
        Scenes(**wrong)
    with pytest.raises(UserError, match="no two shapes"):
        Scenes(kinds=["ring"], colours=["red"])

"""Some classes of a source, and some in another style."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.digits import Digits
from datamodules.sources.restyled import Restyled
from datamodules.sources.some_classes import SomeClasses

DIGITS = Digits().load()
X, Y = DIGITS.columns["x"], DIGITS.columns["y"]


def test_some_classes_are_kept_in_the_order_given():
    found = SomeClasses(Digits(), ["7", 2]).load()
    assert found.spec.classes == ("7", "2")
    expected = torch.cat([X[(Y == 7) | (Y == 2)]])
    assert torch.equal(found.columns["x"], expected)
    assert torch.equal(found.columns["y"], (Y[(Y == 7) | (Y == 2)] == 2).long())


def test_splits_of_the_source_go_along():
    restyled = Restyled(Digits(), ["8"], few=20)
    records, found = restyled.load(), SomeClasses(restyled, ["3", "8"]).load()
    for name, number in (
        ("train", 20),
        ("test", int(torch.isin(Y[records.splits["test"]], torch.tensor([3, 8])).sum())),
    ):
        assert len(found.splits[name]) == number
    kept = records.splits["test"][torch.isin(Y[records.splits["test"]], torch.tensor([3, 8]))]
    assert torch.equal(found.columns["x"][found.splits["test"]], records.columns["x"][kept])


@pytest.mark.parametrize(
    ("style", "made"),
    [
        ("negative", lambda x: 1 - x),
        ("turned", lambda x: x.mT.flip(2)),
        ("mirrored", lambda x: x[..., torch.arange(7, -1, -1)]),
    ],
)
def test_the_chosen_classes_alone_come_in_the_style(style, made):
    found = Restyled(Digits(), ["1", "8"], style=style).load()
    chosen = (Y == 1) | (Y == 8)
    assert torch.equal(found.columns["x"][chosen], made(X[chosen]))
    assert torch.equal(found.columns["x"][~chosen], X[~chosen])
    train, test = found.splits["train"], found.splits["test"]
    assert len(test) == 1797 // 5
    assert len(torch.cat([train, test]).unique()) == 1797


def test_a_few_examples_are_of_the_style_and_not_among_the_test_records():
    found, whole = Restyled(Digits(), ["8"], few=32).load(), Restyled(Digits(), []).load()
    assert Y[found.splits["train"]].tolist() == [8] * 32
    assert torch.equal(found.splits["test"], whole.splits["test"])
    assert torch.equal(whole.columns["x"], X)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda: SomeClasses(Digits(), ["ten"]), "no class ten"),
        (lambda: SomeClasses(Digits(), []), "at least one"),
        (lambda: SomeClasses(Digits(), ["1", "1"]), "each once"),
        (lambda: Restyled(Digits(), ["8"], style="bold"), "style=bold"),
        (lambda: Restyled(Digits(), ["8"], few=1000), "few=1000"),
        (lambda: Restyled(Digits(), ["8"], few=0), "few=0"),
    ],
)
def test_what_makes_no_sense_is_refused(source, message):
    with pytest.raises(UserError, match=message):
        source().load()

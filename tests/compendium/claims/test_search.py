"""Tuning: equal budgets, the stated laws, and two names of one method that tie."""

from __future__ import annotations

import json
import math

import pytest

import compare
from compendium.claims.search import Search, drawn
from compendium.errors import UserError, UserErrors
from tests.command import here
from tests.compendium.quick import CLASSIFIER

WRITTEN = {"metric": "validate/nll", "trials": 8, "space": {"optimizer.lr": "log 0.001 10"}}


def test_laws_by_hand():
    assert drawn("log 0.01 100", 0.5) == "1"
    assert drawn("uniform -1 3", 0.25) == "0"
    assert [drawn("choice a b c", place) for place in (0.0, 0.34, 0.99, 1.0)] == ["a", "b", "c", "c"]
    assert drawn("log 1 1000", 1 / 7) == "2.68"


def test_each_part_of_a_range_is_met_once():
    points = Search.of(WRITTEN, ["a"]).points("a")
    logs = sorted(math.log10(float(point["optimizer.lr"])) for point in points)
    assert [math.floor((log + 3) / 4 * 8) for log in logs] == list(range(8))


def test_arms_share_the_values_of_what_they_share():
    own = {"b": {"optimizer.momentum": "choice 0 0.9"}, "c": {"optimizer.lr": "log 0.1 1"}}
    search = Search.of(WRITTEN | {"arms": own}, ["a", "b", "c"])
    a, b, c = (search.points(arm) for arm in "abc")
    assert [point["optimizer.lr"] for point in b] == [point["optimizer.lr"] for point in a]
    assert {point["optimizer.momentum"] for point in b} == {"0", "0.9"}
    assert all(0.1 <= float(point["optimizer.lr"]) <= 1 for point in c)
    lowest = min(a, key=lambda point: float(point["optimizer.lr"]))
    assert search.at_an_edge("a", lowest) == ["optimizer.lr"]
    assert search.at_an_edge("a", sorted(a, key=lambda point: float(point["optimizer.lr"]))[3]) == []


def test_a_space_of_few_choices_is_tried_once_each():
    search = Search.of({"metric": "test/nll", "trials": 8, "space": {"net.depth": "choice 1 2"}}, ["a"])
    assert sorted(point["net.depth"] for point in search.points("a")) == ["1", "2"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"trails": 3}, "no key 'trails'"),
        ({"trials": 0}, "at least 1"),
        ({"seeds": [0]}, "1000 and up"),
        ({"better": "more"}, "lower or higher"),
        ({"arms": {"x": {}}}, "no arm 'x'"),
        ({"space": {"optimizer.lr": "log 0 1"}}, "is no law"),
        ({"space": {"optimizer.lr": "normal 0 1"}}, "is no law"),
    ],
)
def test_what_is_wrong_is_said(change, message):
    with pytest.raises((UserError, UserErrors), match=message):
        Search.of(WRITTEN | change, ["a"])


def test_two_names_of_one_method_tie(capfd, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    arms = ("arms.one=optimizer=adamw", "arms.other=optimizer=adamw")
    space = ("search.trials=2", "search.metric=test/nll", "search.space.optimizer.lr=log 0.001 0.1")
    outcome = here(capfd, *CLASSIFIER, *arms, *space, program=compare)
    assert outcome.code == 0, outcome.err
    one, other = (json.loads(path.read_text()) for path in sorted(tmp_path.rglob("search.json")))
    assert (one["arm"], other["arm"]) == ("one", "other")
    assert one["trials"] == other["trials"]
    assert one["best"] == min(one["trials"], key=lambda trial: trial["test/nll"])["values"]
    assert outcome.out.count("2 runs to do") == 1  # the second arm's runs are the first's

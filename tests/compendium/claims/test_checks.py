"""Checks: how they read, and each verdict on figures whose answer is known."""

from __future__ import annotations

import math

import pytest
from scipy import stats

from compendium.claims.checks import Better, Every, Identity, parse
from compendium.errors import UserError
from tests.compendium.claims.fakes import Figures

CLOSE = [0.10, 0.12, 0.11, 0.09, 0.13]
FAR = [0.50, 0.52, 0.49, 0.51, 0.53]


def judge(check, **evidence):
    return parse(check).judge(Figures(**evidence))


def two(a, b, name="test/nll"):
    return {"a": {name: a}, "b": {name: b}}


# How they read


def test_sides_are_sums_of_factors_and_figures():
    check = parse("a.test/nll - 0.5 * b.test/nll < -2 * 0.25 * c.test/nll + 1e-2 - 3")
    difference = check.above - check.below
    terms = {str(of): factor for factor, of in difference.terms}
    assert terms == {"c.test/nll": -0.5, "a.test/nll": -1.0, "b.test/nll": 0.5}
    assert difference.constant == pytest.approx(-2.99)
    assert check.strict
    assert isinstance(check, Better)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("a.x > b.x", Better),
        ("every a.test/modes >= 25", Every),
        ("|a.x - b.x| <= 1e-6", Identity),
        ("every 2 < a.x", Every),
    ],
)
def test_kinds(text, kind):
    assert isinstance(parse(text), kind)


def test_points_of_swept_arms_have_names():
    (reference,) = parse("a[data.n=16].test/knn > 0.5").references
    assert (reference.point, reference.arm, reference.figure) == ("a[data.n=16]", "a", "test/knn")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.x", "compares nothing"),
        ("1 < 2", "names no figure"),
        ("a.x * b.x < 1", "multiplies two figures"),
        ("a.x < b.x b.y", "not understood"),
        ("a.x < b.x +", "ends in the middle"),
        ("|a.x - b.x| <= c.x", "a tolerance is a number"),
        ("a.x < §", "not understood"),
        ({"reach": "x", "level": 1, "arm": "a"}, "needs than"),
        ({"reach": "x", "level": 1, "arm": "a", "than": "b", "fctor": 2}, "did you mean factor"),
        ({"rate": "x", "of": "y", "arm": "a"}, "one of at_most"),
        ({"speed": 1}, "of no known kind"),
    ],
)
def test_what_is_no_check(text, message):
    with pytest.raises(UserError) as caught:
        parse(text)
    assert message in str(caught.value)


# Better, not worse, against a number


def test_better_by_the_paired_t_interval():
    verdict = judge("a.test/nll < b.test/nll", figures=two(CLOSE, FAR))
    expected = stats.ttest_rel(FAR, CLOSE, alternative="greater")
    assert verdict.verdict == "holds"
    assert verdict.p == pytest.approx(expected.pvalue, rel=1e-9)
    assert verdict.interval.low == pytest.approx(expected.confidence_interval(0.95).low, rel=1e-9)
    assert verdict.values[0] == pytest.approx(0.40)


def test_pairing_removes_what_the_seeds_share():
    shared = [10.0, -3.0, 5.0, 20.0, 0.0]
    a = [s + d for s, d in zip(shared, [0.10, 0.11, 0.09, 0.10, 0.10], strict=True)]
    assert judge("b.x < a.x", figures=two(a, shared, "x")).verdict == "holds"


def test_the_opposite_fails_and_noise_is_inconclusive():
    assert judge("b.test/nll < a.test/nll", figures=two(CLOSE, FAR)).verdict == "fails"
    noise = judge("a.x < b.x", figures=two([0.1, 0.5, 0.2, 0.4, 0.3], [0.3, 0.3, 0.3, 0.3, 0.35], "x"))
    assert noise.verdict == "inconclusive"


@pytest.mark.parametrize(("margin", "verdict"), [(0.3, "holds"), (0.5, "fails")])
def test_a_margin_and_a_factor(margin, verdict):
    assert judge(f"a.x < b.x - {margin}", figures=two(CLOSE, FAR, "x")).verdict == verdict
    assert judge("a.x < 0.3 * b.x", figures=two(CLOSE, FAR, "x")).verdict == "holds"
    assert judge("a.x < 0.1 * b.x", figures=two(CLOSE, FAR, "x")).verdict == "fails"


def test_not_worse_by_more_than_a_margin():
    worse = [value + 0.01 for value in CLOSE]
    assert judge("a.x <= b.x + 0.02", figures=two(worse, CLOSE, "x")).verdict == "holds"
    assert judge("a.x <= b.x + 0.005", figures=two(worse, CLOSE, "x")).verdict == "fails"


def test_differences_without_spread():
    same = two(CLOSE, CLOSE, "x")
    assert judge("a.x < b.x", figures=same).verdict == "fails"  # zero is not below zero, and certainly so
    assert judge("a.x <= b.x", figures=same).verdict == "holds"
    assert judge("a.x > 24", figures={"a": {"x": [25.0] * 5}}).verdict == "holds"


def test_against_a_number_is_a_one_sample_test():
    verdict = judge("a.x <= 0.15", figures={"a": {"x": CLOSE}})
    assert verdict.verdict == "holds"
    assert verdict.p == pytest.approx(stats.ttest_1samp(CLOSE, 0.15, alternative="less").pvalue, rel=1e-9)


def test_fewer_than_five_seeds_never_hold():
    verdict = judge("a.x < b.x", figures=two(CLOSE[:4], FAR[:4], "x"), seeds=4)
    assert verdict.verdict == "inconclusive"
    assert "takes 5" in verdict.why
    assert judge("every a.x < 1", figures=two(CLOSE[:4], FAR[:4], "x"), seeds=4).verdict == "inconclusive"


@pytest.mark.parametrize("odd", [None, math.nan, math.inf])
def test_a_figure_that_is_missing_or_not_finite_is_inconclusive(odd):
    verdict = judge("a.x < b.x", figures=two([*CLOSE[:4], odd], FAR, "x"))
    assert verdict.verdict == "inconclusive"
    assert "seed 4" in verdict.why


# Bounds, identities, rates


def test_a_bound_that_no_seed_breaks():
    assert judge("every a.x >= 25", figures={"a": {"x": [25.0, 26.0, 25.0, 27.0, 25.0]}}).verdict == "holds"
    broken = judge("every a.x >= 25", figures={"a": {"x": [25.0, 26.0, 24.0, 27.0, 25.0]}})
    assert broken.verdict == "fails"
    assert "seed 2" in broken.why
    assert judge("every a.x > 25", figures={"a": {"x": [25.0] * 5}}).verdict == "fails"
    assert judge("every a.x > 25", figures={"a": {"x": [math.nan] * 5}}).verdict == "fails"


def test_an_identity_needs_one_seed_and_its_tolerance():
    figures = two([1.0], [1.0 + 5e-7], "x")
    assert judge("|a.x - b.x| <= 1e-6", figures=figures, seeds=1).verdict == "holds"
    assert judge("|a.x - b.x| <= 1e-7", figures=figures, seeds=1).verdict == "fails"
    assert judge("|a.x - b.x| <= 1e-6", figures=two([math.nan], [1.0], "x"), seeds=1).verdict == "fails"
    assert judge("|a.x| <= 1e-6", figures={"a": {"x": [0.0, -1e-7]}}, seeds=2).verdict == "holds"


@pytest.mark.parametrize(
    ("errors", "bound", "verdict"),
    [
        (80, {"at_most": 0.1}, "holds"),
        (100, {"at_most": 0.1}, "inconclusive"),
        (100, {"at_most": 0.1, "tolerance": 0.02}, "holds"),
        (130, {"at_most": 0.1}, "fails"),
        (130, {"at_least": 0.1}, "holds"),
        (100, {"equals": 0.1, "tolerance": 0.02}, "holds"),
        (100, {"equals": 0.1, "tolerance": 0.001}, "inconclusive"),
        (150, {"equals": 0.1, "tolerance": 0.02}, "fails"),
    ],
)
def test_rates_by_clopper_and_pearson(errors, bound, verdict):
    figures = {"a": {"errors": [errors / 5] * 5, "trials": [200.0] * 5}}
    found = judge({"rate": "errors", "of": "trials", "arm": "a"} | bound, figures=figures)
    assert found.verdict == verdict
    exact = stats.binomtest(errors, 1000).proportion_ci(0.9, "exact")
    assert (found.interval.low, found.interval.high) == pytest.approx((exact.low, exact.high))


# Trends


def sweep(rows, key="n", values=(1, 2, 4, 8)):
    names = [f"a[{key}={value}]" for value in values]
    figures = {name: {"x": row} for name, row in zip(names, rows, strict=True)}
    return {"figures": figures, "sweeps": {"a": [(key, v, n) for v, n in zip(values, names, strict=True)]}}


def test_a_trend_is_the_slope_per_doubling():
    rows = [[value + noise for noise in (0.0, 0.01, -0.01, 0.02, 0.0)] for value in (0.4, 0.3, 0.2, 0.1)]
    falls = judge("a.x falls as n grows", **sweep(rows))
    assert falls.verdict == "holds"
    assert falls.interval.estimate == pytest.approx(0.1)
    assert judge("a.x rises as n grows", **sweep(rows)).verdict == "fails"


def test_a_trend_of_a_difference_with_an_arm_that_is_not_swept():
    rows = [[value + noise for noise in (0.0, 0.01, -0.01, 0.02, 0.0)] for value in (0.4, 0.3, 0.2, 0.1)]
    evidence = sweep(rows)
    evidence["figures"]["b"] = {"x": [1.0, 0.9, 1.1, 1.0, 1.0]}
    assert judge("b.x - a.x rises as n grows", **evidence).verdict == "holds"


def test_every_step_must_hold_where_it_is_said():
    noise = (0.0, 0.01, -0.01, 0.02, 0.0)
    dip = [[value + one for one in noise] for value in (0.4, 0.1, 0.3, 0.05)]
    assert judge("a.x falls as n grows", **sweep(dip)).verdict == "holds"
    verdict = judge("a.x falls at every step of n", **sweep(dip))
    assert verdict.verdict == "fails"
    assert "from 2 to 4" in verdict.why


# Reaching a level


def line(slope, steps=100, start=10.0):
    return [(step, start - slope * step) for step in range(0, steps + 1, 10)]


REACH = {"reach": "loss", "level": "b", "arm": "a", "than": "b"}


def test_reaching_the_others_last_value_in_fewer_steps():
    jitter = [-0.001, 0.0, 0.001, 0.002, -0.002]
    curves = {"a": {"loss": [line(0.1 + j) for j in jitter]}, "b": {"loss": [line(0.05 + j / 2) for j in jitter]}}
    verdict = judge(REACH | {"factor": 0.6}, curves=curves)
    assert verdict.verdict == "holds"
    assert "0.5 of the steps" in verdict.why
    assert judge(REACH | {"factor": 0.4}, curves=curves).verdict == "fails"


def test_crossings_are_linear_between_logged_points():
    curves = {"a": {"loss": [(0, 10.0), (100, 0.0)]}, "b": {"loss": [(0, 10.0), (80, 5.0)]}}
    verdict = judge(REACH | {"factor": 1.0}, curves=curves)
    assert math.exp(-verdict.interval.estimate) == pytest.approx(50 / 80)


def test_a_level_that_is_never_reached_cannot_hold():
    curves = {"a": {"loss": line(0.01)}, "b": {"loss": line(0.05)}}
    assert judge(REACH | {"factor": 0.9}, curves=curves).verdict == "fails"
    assert judge(REACH | {"factor": 1.1}, curves=curves).verdict == "inconclusive"


def test_seconds_are_a_ratio_and_counters_are_read_where_the_level_is_reached():
    curves = {"a": {"loss": line(0.1)}, "b": {"loss": line(0.05)}}
    slow = judge(REACH | {"in": "seconds", "factor": 0.9}, curves=curves, seconds={"a": 3.0, "b": 1.0})
    assert slow.verdict == "fails"
    assert math.exp(-slow.interval.estimate) * 0.9 == pytest.approx(1.5)
    curves["a"]["train/calls"] = [(step, 10.0 * step) for step in range(0, 101, 10)]
    curves["b"]["train/calls"] = [(step, 1.0 * step) for step in range(0, 101, 10)]
    calls = judge(REACH | {"in": "train/calls", "factor": 1.0}, curves=curves)
    assert math.exp(-calls.interval.estimate) == pytest.approx(500 / 100)


def test_higher_can_be_better():
    curves = {
        "a": {"loss": [(0, 0.0), (100, 1.0)]},
        "b": {"loss": [(0, 0.0), (100, 0.5)]},
    }
    assert judge(REACH | {"above": True, "factor": 0.6}, curves=curves).verdict == "holds"

"""The statistics themselves: how often equal arms are called different, how often a difference is found.

What is simulated are whole comparisons of five seeds; the verdicts are those of the checks, by the same code that
judges claims. `python -m tests.compendium.claims.test_statistics` prints the table of the guide.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from compendium.claims.checks import parse
from compendium.claims.statistics import (
    alike,
    detectable,
    differences,
    mean_interval,
    p_above_zero,
    share_interval,
    slope,
)
from tests.compendium.claims.fakes import Figures

COMPARISONS = 1000
LAWS = {
    "normal": lambda draw, size: draw.normal(size=size),
    "Student's t with 3 degrees of freedom": lambda draw, size: draw.standard_t(3, size=size),
    "log-normal": lambda draw, size: draw.lognormal(size=size),
    "accuracy of 100 records": lambda draw, size: draw.binomial(100, 0.9, size=size) / 100,
    "modes covered, 0 to 25": lambda draw, size: draw.binomial(25, 0.97, size=size).astype(float),
}


def verdicts(law, effect=0.0, comparisons=COMPARISONS, seeds=5):
    """Verdicts on `a.x < b.x` where a is better by `effect`."""
    draw = np.random.default_rng(0)
    check = parse("a.x < b.x")
    found = []
    for _ in range(comparisons):
        a, b = LAWS[law](draw, (2, seeds))
        figures = {"a": {"x": list(map(float, a - effect))}, "b": {"x": list(map(float, b))}}
        found.append(check.judge(Figures(figures, seeds=seeds)).verdict)
    return found


def limit(comparisons):
    """The largest count that a rate of 5% exceeds in less than one of a thousand simulations of the test itself."""
    return stats.binom.ppf(0.999, comparisons, 0.05)


@pytest.mark.parametrize("law", LAWS)
def test_equal_arms_rarely_hold(law):
    found = verdicts(law)
    assert found.count("holds") <= limit(COMPARISONS)
    assert found.count("holds") / COMPARISONS <= 0.055  # measured: 3.2% to 5.1%, with an error of 0.7%


def test_equal_arms_of_a_normal_law_hold_at_the_nominal_rate():
    holds = verdicts("normal").count("holds")
    assert abs(holds - 50) <= 3 * math.sqrt(1000 * 0.05 * 0.95)


def test_power_is_that_of_the_t_test():
    from statsmodels.stats.power import TTestPower

    effect = 2.0  # of the difference's standard deviation, sqrt(2)
    share = verdicts("normal", effect * math.sqrt(2), 500).count("holds") / 500
    expected = TTestPower().power(effect, nobs=5, alpha=0.05, alternative="larger")
    assert share == pytest.approx(float(expected), abs=3 * math.sqrt(0.25 / 500))


def test_what_is_called_detectable_is_found_four_times_in_five():
    draw = np.random.default_rng(1)
    values = draw.normal(size=400)
    effect = detectable(list(values)) / values.std(ddof=1)
    from statsmodels.stats.power import TTestPower

    assert TTestPower().power(effect, nobs=400, alpha=0.05, alternative="larger") == pytest.approx(0.8, abs=1e-3)


def test_a_claim_of_several_checks_is_no_easier():
    """All checks must hold: the claim's rate is at most that of one check."""
    draw = np.random.default_rng(2)
    checks = [parse("a.x < b.x"), parse("a.y < b.y")]
    count = 0
    for _ in range(300):
        figures = {arm: {name: list(draw.normal(size=5)) for name in "xy"} for arm in "ab"}
        count += all(check.judge(Figures(figures)).verdict == "holds" for check in checks)
    assert count <= limit(300)


def test_a_rate_on_its_limit_rarely_holds():
    draw = np.random.default_rng(3)
    check = parse({"rate": "errors", "of": "trials", "arm": "a", "at_most": 0.1})
    count = 0
    for _ in range(500):
        errors = draw.binomial(200, 0.1, size=5).astype(float)
        found = check.judge(Figures({"a": {"errors": list(errors), "trials": [200.0] * 5}}))
        count += found.verdict == "holds"
    assert count <= limit(500)


def test_a_flat_sweep_rarely_has_a_trend():
    draw = np.random.default_rng(4)
    check = parse("a.x falls as n grows")
    names = [f"a[n={value}]" for value in (1, 2, 4, 8)]
    sweeps = {"a": [("n", float(value), name) for value, name in zip((1, 2, 4, 8), names, strict=True)]}
    count = 0
    for _ in range(300):
        figures = {name: {"x": list(draw.normal(size=5))} for name in names}
        count += check.judge(Figures(figures, sweeps=sweeps)).verdict == "holds"
    assert count <= limit(300)


def test_many_equal_arms_are_corrected(monkeypatch):
    """Five arms that equal the baseline: in at most 5% of the comparisons any of them has a corrected p below 5%."""
    monkeypatch.setattr("gc.collect", lambda *_: 0)  # statsmodels' at each correction: 0.4 s in a process full of tests
    draw = np.random.default_rng(5)
    any_found, any_excluded = 0, 0
    for _ in range(500):
        base = draw.normal(size=5)
        found = differences({str(arm): list(draw.normal(size=5) - base) for arm in range(5)})
        any_found += any(one.p < 0.05 for one in found.values())
        any_excluded += any(not one.interval.low <= 0 <= one.interval.high for one in found.values())
    assert any_found <= limit(500)
    assert any_excluded <= limit(500)


def test_intervals_are_scipys():
    values = [1.0, 2.0, 4.0, 3.5, 2.5]
    both = mean_interval(values, sides=2)
    low, high = stats.t.interval(0.95, 4, np.mean(values), stats.sem(values))
    assert (both.low, both.high) == pytest.approx((low, high))
    one = mean_interval(values, sides=1)
    assert one.low == pytest.approx(np.mean(values) - stats.t.ppf(0.95, 4) * stats.sem(values))
    assert p_above_zero(values) == pytest.approx(stats.ttest_1samp(values, 0, alternative="greater").pvalue)
    assert share_interval(3, 10).low == pytest.approx(stats.beta.ppf(0.05, 3, 8))
    assert slope([1, 2, 3], [2, 4, 6]) == pytest.approx(2)


def test_one_value_says_nothing_and_equal_values_everything():
    assert mean_interval([3.0], 1).low == -math.inf
    assert mean_interval([3.0, 3.0, 3.0], 1).low == 3.0
    assert detectable([3.0]) == math.inf
    assert detectable([3.0, 3.0]) == 0.0
    assert math.isnan(p_above_zero([3.0]))
    assert alike([0.1 + 0.2, 0.3])
    assert not alike([0.3, 0.3001])
    found = differences({"a": [1.0], "b": [0.0, 0.0], "c": [2.0, 2.0], "d": [1.0, 1.1, 0.9]})
    assert math.isnan(found["a"].p)
    assert found["b"].p == 1.0
    assert found["c"].p == 0.0


def main() -> None:
    """Print the rates of false `holds` and the power."""
    print("law                                      false holds   power at 1, 2, 3 sd of the difference")
    for law in LAWS:
        spread = float(np.std(LAWS[law](np.random.default_rng(9), (100_000,)))) * math.sqrt(2)
        power = [verdicts(law, effect * spread).count("holds") / COMPARISONS for effect in (1, 2, 3)]
        rate = verdicts(law).count("holds") / COMPARISONS
        print(f"{law:<40} {rate:<13.3f} {'  '.join(f'{one:.2f}' for one in power)}")


if __name__ == "__main__":
    main()

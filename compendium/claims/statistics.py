"""Intervals and tests, all from scipy and statsmodels; here is only what they are asked.

One number per seed comes in, already paired: what is judged is always a difference, a ratio's logarithm or a slope per
seed. Intervals are Student's t, which the paired design makes exact for normal differences and conservative for arms
that are equal (their difference is symmetric, whatever the law). `tests/compendium/claims/test_statistics.py` measures
the rate of false `holds`.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

LEVEL = 0.95
"""Of every interval; one-sided in checks, two-sided in tables."""
POWER = 0.8
"""At which the detectable difference is reported (Cohen 1988)."""
ROUNDING = 1e-12
FEWEST = 5
"""Seeds below which no statistical check holds."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its bounds.

    Attributes:
        estimate: the mean over seeds, or the pooled share.
        low, high: bounds, each one-sided at 95% (together they hold at 90%) or two-sided at 95%, as asked for.
        n: seeds, or trials.
    """

    estimate: float
    low: float
    high: float
    n: int


def mean_of(values: Sequence[float]) -> float:
    """The mean; of equal values their value, without rounding."""
    return values[0] if max(values) == min(values) else math.fsum(values) / len(values)


def alike(values: Sequence[float]) -> bool:
    """Whether values differ by rounding alone, which is no spread that a test could go by."""
    return max(values) - min(values) <= ROUNDING * max(map(abs, values))


def mean_interval(values: Sequence[float], sides: int) -> Interval:
    """Student's t interval of a mean.

    Args:
        values: one per seed (n,), finite.
        sides: 2 for a two-sided 95% interval; 1 for two bounds that each hold at 95%.

    Returns:
        Unbounded for fewer than two values; the mean itself where all are equal.
    """
    from scipy import stats

    mean, n = mean_of(values), len(values)
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n)
    if alike(values):
        return Interval(mean, mean, mean, n)
    level = LEVEL if sides == 2 else 2 * LEVEL - 1
    bounds = stats.ttest_1samp(values, 0.0).confidence_interval(level)
    return Interval(mean, float(bounds.low), float(bounds.high), n)


def share_interval(successes: int, trials: int) -> Interval:
    """Clopper and Pearson's interval of a share; each bound holds at 95%."""
    from scipy import stats

    bounds = stats.binomtest(successes, trials).proportion_ci(2 * LEVEL - 1, method="exact")
    return Interval(successes / trials, float(bounds.low), float(bounds.high), trials)


def p_above_zero(values: Sequence[float]) -> float:
    """One-sided p-value of the t-test that the mean is not above zero."""
    from scipy import stats

    if len(values) < 2:
        return math.nan
    if alike(values):
        return 0.0 if mean_of(values) > 0 else 1.0
    return float(stats.ttest_1samp(values, 0.0, alternative="greater").pvalue)


def detectable(values: Sequence[float]) -> float:
    """The mean that a one-sided t-test at 5% would find with probability 0.8, given n and the spread of the values.

    In the units of the values; infinite for fewer than two, zero where they do not differ.
    """
    if len(values) < 2:
        return math.inf
    return 0.0 if alike(values) else detectable_effect(len(values)) * statistics.stdev(values)


@cache
def detectable_effect(n: int) -> float:
    """The same in standard deviations."""
    from statsmodels.stats.power import TTestPower

    return float(TTestPower().solve_power(nobs=n, alpha=1 - LEVEL, power=POWER, alternative="larger"))


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Least-squares slope of y (k,) against x (k,)."""
    from scipy import stats

    return float(stats.linregress(x, y).slope)


@dataclass(frozen=True)
class Difference:
    """One arm beside the baseline, paired by seed.

    Attributes:
        interval: of arm minus baseline; simultaneous over all arms of the comparison (Bonferroni), two-sided 95%.
        p: two-sided p-value, Holm's correction over all arms.
    """

    interval: Interval
    p: float


def differences(paired: Mapping[str, Sequence[float]]) -> dict[str, Difference]:
    """Arm -> its differences to the baseline per seed (n,) -> Intervals and p-values, corrected for many arms.

    Arms with fewer than two pairs get neither bounds nor a p-value.
    """
    from scipy import stats
    from statsmodels.stats.multitest import multipletests

    tested = {arm: values for arm, values in paired.items() if len(values) > 1}
    level = 1 - (1 - LEVEL) / max(1, len(tested))
    raw: dict[str, float] = {}
    found = {arm: Difference(mean_interval(values, 2), math.nan) for arm, values in paired.items() if len(values) == 1}
    for arm, values in tested.items():
        interval = mean_interval(values, 2)
        if alike(values):
            raw[arm] = 0.0 if mean_of(values) else 1.0
        else:
            test = stats.ttest_1samp(values, 0.0)
            bounds = test.confidence_interval(level)
            interval = Interval(interval.estimate, float(bounds.low), float(bounds.high), len(values))
            raw[arm] = float(test.pvalue)
        found[arm] = Difference(interval, math.nan)
    if raw:
        corrected = multipletests(list(raw.values()), method="holm")[1]
        found |= {arm: Difference(found[arm].interval, float(p)) for arm, p in zip(raw, corrected, strict=True)}
    return {arm: found[arm] for arm in paired if arm in found}

"""Checks: statements about the figures of arms, and whether the evidence bears them out.

    soap.test/nll < 0.9 * adamw.test/nll - 0.02        better, by a factor and a margin; also <=, >, >=
    r_dpo.test/win_rate >= dpo.test/win_rate - 0.02    not worse by more than a margin
    optcs.test/fdr <= 0.11                             against a number
    every r3gan.test/modes >= 25                       a bound that no seed breaks
    |scan.test/nll - convolution.test/nll| <= 1e-6     an identity, in every seed
    dcl.test/knn - simclr.test/knn falls as datamodule.batch_size grows         a trend along a swept value
    dcl.test/knn rises at every step of datamodule.batch_size                   the same between all neighbours
    {reach: validate/nll, level: adamw, arm: soap, than: adamw, in: step, factor: 0.8}
    {rate: test/errors, of: test/trials, arm: conformal, at_most: 0.1, tolerance: 0.01}

A figure is ARM.FIGURE, or ARM[KEY=VALUE].FIGURE for one point of a swept arm. Sides are sums of figures, each with a
factor, and numbers.

Verdicts. A statement says that a mean over seeds is above zero: that of a difference, a log ratio or a slope, turned
so that the claim is positive. It `holds` where the one-sided 95% bound says so, `fails` where the opposite one-sided
bound rules it out, and is `inconclusive` in between, with fewer than five seeds, and where a run is missing or a figure
is not finite. Bounds and identities say `holds` or `fails` by every seed. A claim holds if all of its checks do: each
is at 5%, and so is the claim.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from compendium.claims.statistics import (
    FEWEST,
    Interval,
    detectable,
    mean_interval,
    p_above_zero,
    share_interval,
    slope,
)
from compendium.errors import UserError, did_you_mean

HOLDS, FAILS, INCONCLUSIVE = "holds", "fails", "inconclusive"


class Evidence(Protocol):
    """What checks ask of the runs. A point is an arm, or `ARM[KEY=VALUE]` where the arm is swept."""

    seeds: Sequence[int]

    def figure(self, point: str, name: str, seed: int) -> float | None:
        """A test figure; None where the run is missing or has no such figure."""
        ...

    def curve(self, point: str, name: str, seed: int) -> Sequence[tuple[float, float]]:
        """(step, value) of what was logged under a name, in order."""
        ...

    def seconds_per_step(self, point: str, seed: int) -> float | None:
        """Mean training time of a step."""
        ...

    def swept(self, arm: str) -> Sequence[tuple[str, float, str]]:
        """(key, value, point) of each point of a swept arm, by value; empty for a plain one."""
        ...


@dataclass(frozen=True)
class Verdict:
    """How a check came out.

    Attributes:
        verdict: `holds`, `fails` or `inconclusive`.
        why: a sentence with the figures.
        interval: of what is claimed to be positive; its bounds are one-sided at 95% each. None for bounds and
            identities.
        p: one-sided p-value.
        detectable: what the check would have found with probability 0.8, in the interval's units.
        values: one per seed, what is claimed to be positive; for bounds and identities the bounded value.
    """

    verdict: str
    why: str
    interval: Interval | None = None
    p: float | None = None
    detectable: float | None = None
    values: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Reference:
    """A figure of an arm, `arm.figure` or `arm[key=value].figure`."""

    point: str
    figure: str

    @property
    def arm(self) -> str:
        return self.point.partition("[")[0]

    def at(self, point: str) -> Reference:
        """The same figure of another point."""
        return replace(self, point=point)

    def __str__(self) -> str:
        return f"{self.point}.{self.figure}"


@dataclass(frozen=True)
class Sum:
    """constant + sum of factor * figure."""

    terms: tuple[tuple[float, Reference], ...] = ()
    constant: float = 0.0

    def __sub__(self, other: Sum) -> Sum:
        return Sum((*self.terms, *((-factor, of) for factor, of in other.terms)), self.constant - other.constant)

    def at(self, points: Mapping[str, str]) -> Sum:
        """The same sum at other points: arm -> point; arms that are not named stay where they are."""
        return Sum(tuple((factor, of.at(points.get(of.arm, of.point))) for factor, of in self.terms), self.constant)

    @property
    def references(self) -> list[Reference]:
        return [of for _, of in self.terms]

    def per_seed(self, evidence: Evidence) -> tuple[dict[int, float], str]:
        """Its value for each seed, and what is missing, if anything is."""
        values: dict[int, float] = {}
        for seed in evidence.seeds:
            figures = [evidence.figure(of.point, of.figure, seed) for of in self.references]
            for of, figure in zip(self.references, figures, strict=True):
                if figure is None:
                    return values, f"there is no {of.figure} of {of.point} for seed {seed}"
            values[seed] = math.fsum(
                [factor * figure for (factor, _), figure in zip(self.terms, figures, strict=True)] + [self.constant]  # type: ignore[operator]
            )
        return values, ""


class Check:
    """A statement about figures.

    Attributes:
        text: as it was written.
        kind: what kind of statement, in the words of the result file.
    """

    text: str
    kind: str

    @property
    def references(self) -> list[Reference]:
        """The figures of finished runs that it needs."""
        raise NotImplementedError

    @property
    def curves(self) -> list[Reference]:
        """The logged figures that it needs."""
        return []

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(arm, key) of the sweeps that it needs."""
        return []

    def judge(self, evidence: Evidence) -> Verdict:
        """Whether the evidence bears the statement out."""
        raise NotImplementedError


def judged(values: Mapping[int, float], strict: bool, missing: str, what: Callable[[Interval], str]) -> Verdict:
    """The verdict on a mean over seeds being above zero (`strict`), or at least zero.

    Args:
        values: one per seed, positive where the statement is true.
        strict: whether zero itself breaks the statement.
        missing: why values are missing; empty if none is.
        what: the sentence, from the interval.
    """
    if missing:
        return Verdict(INCONCLUSIVE, missing, values=values)
    odd = [seed for seed, value in values.items() if not math.isfinite(value)]
    if odd:
        return Verdict(INCONCLUSIVE, f"a figure is {values[odd[0]]} for seed {odd[0]}", values=values)
    numbers = list(values.values())
    interval = mean_interval(numbers, sides=1)
    verdict = INCONCLUSIVE
    if len(numbers) >= FEWEST:
        if interval.low > 0 or (interval.low == 0 and not strict):
            verdict = HOLDS
        elif interval.high < 0 or (interval.high == 0 and strict):
            verdict = FAILS
    why = what(interval)
    if len(numbers) < FEWEST:
        why += f"; {len(numbers)} seeds, and a verdict takes {FEWEST}"
    return Verdict(verdict, why, interval, p_above_zero(numbers), detectable(numbers), values)


@dataclass(frozen=True)
class Inequality(Check):
    """One sum of figures lies below another; `strict`: and does not equal it."""

    text: str
    below: Sum
    above: Sum
    strict: bool

    @property
    def difference(self) -> Sum:
        """What is positive where the statement is true."""
        return self.above - self.below

    @property
    def references(self) -> list[Reference]:
        return self.difference.references


@dataclass(frozen=True)
class Better(Inequality):
    """`above` minus `below`, paired by seed, is positive: covers margins, factors, "not worse", and plain numbers."""

    kind: str = "better"

    def judge(self, evidence: Evidence) -> Verdict:
        values, missing = self.difference.per_seed(evidence)
        return judged(
            values, self.strict, missing, lambda i: f"true by {i.estimate:.4g} on average, {bounds(i)} over {i.n} seeds"
        )


@dataclass(frozen=True)
class Every(Inequality):
    """A bound that no seed breaks."""

    kind: str = "bound"

    def judge(self, evidence: Evidence) -> Verdict:
        values, missing = self.difference.per_seed(evidence)
        broken = [seed for seed, value in values.items() if not (value > 0 if self.strict else value >= 0)]
        if broken:
            return Verdict(FAILS, f"broken by seed {', '.join(map(str, broken))}", values=values)
        if missing:
            return Verdict(INCONCLUSIVE, missing, values=values)
        why = f"true of all {len(values)} seeds, by {min(values.values()):.4g} or more"
        if len(values) < FEWEST:
            return Verdict(INCONCLUSIVE, f"{why}; a verdict takes {FEWEST}", values=values)
        return Verdict(HOLDS, why, values=values)


@dataclass(frozen=True)
class Identity(Check):
    """Two figures are equal within a tolerance, in every seed; one seed is enough for a verdict."""

    text: str
    difference: Sum
    tolerance: float
    kind: str = "identity"

    @property
    def references(self) -> list[Reference]:
        return self.difference.references

    def judge(self, evidence: Evidence) -> Verdict:
        values, missing = self.difference.per_seed(evidence)
        sizes = {seed: abs(value) for seed, value in values.items()}
        broken = [seed for seed, size in sizes.items() if not size <= self.tolerance]
        if broken:
            return Verdict(FAILS, f"off by {sizes[broken[0]]:.4g} for seed {broken[0]}", values=values)
        if missing:
            return Verdict(INCONCLUSIVE, missing, values=values)
        return Verdict(HOLDS, f"off by {max(sizes.values()):.4g} at most, over {len(sizes)} seeds", values=values)


@dataclass(frozen=True)
class Trend(Check):
    """A sum of figures falls or rises along a swept value.

    Per seed the least-squares slope against the swept value, or against its log2 where it is positive and spans a
    factor of eight or more; the mean slope over seeds is judged. With `steps`, every difference between neighbours is
    judged instead, and all must hold.
    """

    text: str
    of: Sum
    key: str
    rises: bool
    steps: bool
    kind: str = "trend"

    @property
    def references(self) -> list[Reference]:
        return self.of.references

    @property
    def keys(self) -> list[tuple[str, str]]:
        return [(reference.arm, self.key) for reference in self.references]

    def judge(self, evidence: Evidence) -> Verdict:
        places = [place for of in self.references for place in evidence.swept(of.arm) if place[0] == self.key]
        levels = sorted({value for _, value, _ in places})
        sign = 1.0 if self.rises else -1.0
        rows: list[dict[int, float]] = []
        for level in levels:
            place = {
                of.arm: point
                for of in self.references
                for key, value, point in evidence.swept(of.arm)
                if (key, value) == (self.key, level)
            }
            values, missing = self.of.at(place).per_seed(evidence)
            if missing:
                return Verdict(INCONCLUSIVE, missing)
            rows.append(values)
        if self.steps:
            return self.neighbours(rows, levels, sign)
        factors = min(levels) > 0 and max(levels) >= 8 * min(levels)
        x = [math.log2(level) for level in levels] if factors else levels
        slopes = {seed: sign * slope(x, [row[seed] for row in rows]) for seed in evidence.seeds}
        unit = f"doubling of {self.key}" if factors else f"unit of {self.key}"
        word = "rises" if self.rises else "falls"
        return judged(
            slopes, True, "", lambda i: f"{word} by {i.estimate:.4g} per {unit}, {bounds(i)} over {i.n} seeds"
        )

    def neighbours(self, rows: Sequence[Mapping[int, float]], levels: Sequence[float], sign: float) -> Verdict:
        """The weakest of the verdicts on the differences between neighbours."""
        found = []
        for low, high, one, other in zip(levels, levels[1:], rows, rows[1:], strict=False):
            values = {seed: sign * (other[seed] - one[seed]) for seed in one}
            label = f"from {low:g} to {high:g}"
            found.append(
                judged(values, True, "", lambda i, label=label: f"{label} true by {i.estimate:.4g}, {bounds(i)}")  # type: ignore[misc]
            )
        return min(found, key=lambda one: (FAILS, INCONCLUSIVE, HOLDS).index(one.verdict))


@dataclass(frozen=True)
class Reach(Check):
    """An arm reaches a level of a logged figure in fewer than `factor` times what another arm needs.

    What is counted are steps, seconds of training (as a ratio within one comparison, never as such), or a logged
    counter. The level is a number, or an arm whose last logged value it is, seed by seed. Both arms are read at their
    first crossing, linear between logged points; the other arm counts as arriving at its end where it never does, which
    is in its favour, and so does this arm, which then cannot hold. Judged is log(factor * needed by the other) -
    log(needed by the arm).
    """

    text: str
    figure: str
    arm: str
    than: str
    level: float | str
    unit: str
    factor: float
    above: bool = False
    kind: str = "reach"

    @property
    def references(self) -> list[Reference]:
        return []

    @property
    def curves(self) -> list[Reference]:
        points = {self.arm, self.than} | ({self.level} if isinstance(self.level, str) else set())
        return [Reference(point, self.figure) for point in sorted(points)]

    def judge(self, evidence: Evidence) -> Verdict:
        logs: dict[int, float] = {}
        late: list[int] = []
        for seed in evidence.seeds:
            curves = {of.point: evidence.curve(of.point, self.figure, seed) for of in self.curves}
            empty = [point for point, curve in curves.items() if not curve]
            if empty:
                return Verdict(INCONCLUSIVE, f"there is no {self.figure} of {empty[0]} for seed {seed}")
            level = curves[self.level][-1][1] if isinstance(self.level, str) else self.level
            mine, arrived = self.needed(curves[self.arm], level)
            theirs, _ = self.needed(curves[self.than], level)
            if not arrived:
                late.append(seed)
            own = self.in_units(evidence, self.arm, seed, mine)
            other = self.in_units(evidence, self.than, seed, theirs)
            if not own or not other:
                return Verdict(INCONCLUSIVE, f"there is no count of {self.unit} for seed {seed}")
            logs[seed] = math.log(self.factor * other) - math.log(own)
        verdict = judged(logs, True, "", self.sentence)
        if late and verdict.verdict == HOLDS:
            verdict = replace(verdict, verdict=INCONCLUSIVE)
        if late:
            verdict = replace(verdict, why=f"{verdict.why}; never reached by seed {', '.join(map(str, late))}")
        return verdict

    def sentence(self, interval: Interval) -> str:
        """The geometric mean of the ratio, with the one bound that counts."""
        ratio, most = (self.factor * math.exp(-value) for value in (interval.estimate, interval.low))
        return f"{self.arm} needs {ratio:.3g} of the {self.unit}s of {self.than}, at most {most:.3g} at 95%"

    def needed(self, curve: Sequence[tuple[float, float]], level: float) -> tuple[float, bool]:
        """(steps to the level, whether it was reached; else all steps)."""
        sign = 1.0 if self.above else -1.0
        before = curve[0]
        for step, value in curve:
            if sign * (value - level) >= 0:
                gain = value - before[1]
                share = (level - before[1]) / gain if gain else 1.0
                return before[0] + share * (step - before[0]) if step > before[0] else step, True
            before = (step, value)
        return curve[-1][0], False

    def in_units(self, evidence: Evidence, point: str, seed: int, steps: float) -> float | None:
        """Steps in the unit that is counted."""
        if self.unit == "step":
            return steps
        if self.unit == "second":
            each = evidence.seconds_per_step(point, seed)
            return None if each is None else each * steps
        counted = evidence.curve(point, self.unit, seed)
        known = [value for step, value in counted if step <= steps]
        return known[-1] if known else None


@dataclass(frozen=True)
class Rate(Check):
    """A share of independent trials, pooled over seeds, is at most (at least, about) a number, within a tolerance."""

    text: str
    arm: str
    successes: str
    trials: str
    least: float
    most: float
    kind: str = "rate"

    @property
    def references(self) -> list[Reference]:
        return [Reference(self.arm, self.successes), Reference(self.arm, self.trials)]

    def judge(self, evidence: Evidence) -> Verdict:
        counts = []
        for reference in self.references:
            values, missing = Sum(((1.0, reference),)).per_seed(evidence)
            if missing:
                return Verdict(INCONCLUSIVE, missing)
            counts.append(values)
        successes, trials = (round(math.fsum(values.values())) for values in counts)
        shares = {seed: counts[0][seed] / counts[1][seed] for seed in counts[0] if counts[1][seed]}
        if not 0 <= successes <= trials or not trials:
            return Verdict(INCONCLUSIVE, f"{successes} of {trials} is no share", values=shares)
        interval = share_interval(successes, trials)
        why = f"{successes} of {trials}, {interval.estimate:.4g} {bounds(interval)}"
        verdict = INCONCLUSIVE
        if interval.low >= self.least and interval.high <= self.most:
            verdict = HOLDS
        elif interval.high < self.least or interval.low > self.most:
            verdict = FAILS
        return Verdict(verdict, why, interval, values=shares)


def bounds(interval: Interval) -> str:
    return f"[{interval.low:.4g}, {interval.high:.4g}]"


# From text to checks

SIDES = "sides are sums of FACTOR * ARM.FIGURE"
NUMBER = r"(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
REFERENCE = r"[a-z]\w*(?:\[[\w.]+=[^\]]+\])?\.[A-Za-z_][\w/]*(?:\.\w+)*"
TOKEN = re.compile(rf"\s*(?:(?P<reference>{REFERENCE})|(?P<number>{NUMBER})|(?P<sign>[-+*]))")
COMPARED = re.compile(r"^(?P<left>.+?)\s*(?P<sign><=|>=|<|>)\s*(?P<right>.+)$")
TRENDS = re.compile(
    r"^(?P<of>.+?)\s+(?P<way>falls|rises)\s+(?:as\s+(?P<key>[\w.]+)\s+grows|at every step of\s+(?P<step>[\w.]+))$"
)
REACH = {"reach", "level", "arm", "than", "in", "factor", "above"}
RATE = {"rate", "of", "arm", "at_most", "at_least", "equals", "tolerance"}


def parse(written: str | Mapping[str, Any]) -> Check:
    """A check from how it is written in a claim.

    Raises:
        UserError: it is none of the forms in this module's docstring.
    """
    if isinstance(written, Mapping):
        return parse_mapping(written)
    text = " ".join(str(written).split())
    body = text.removeprefix("every ")
    if match := TRENDS.match(body):
        of, key = parse_sum(match["of"], text), match["key"] or match["step"]
        return Trend(text, of, key, rises=match["way"] == "rises", steps=bool(match["step"]))
    match = COMPARED.match(body)
    if match is None:
        raise UserError(f"the check '{text}' compares nothing.", "e.g. soap.test/nll < adamw.test/nll")
    left, right = match["left"], match["right"]
    if left.startswith("|") and left.endswith("|") and match["sign"] == "<=":
        tolerance = parse_sum(right, text)
        if tolerance.terms:
            raise UserError(f"the check '{text}': a tolerance is a number.")
        return Identity(text, parse_sum(left[1:-1], text), tolerance.constant)
    sums = [parse_sum(left, text), parse_sum(right, text)]
    if not sums[0].terms and not sums[1].terms:
        raise UserError(f"the check '{text}' names no figure.", "a figure is ARM.FIGURE, such as soap.test/nll")
    below, above = sums if "<" in match["sign"] else sums[::-1]
    kind = Every if text.startswith("every ") else Better
    return kind(text, below, above, strict="=" not in match["sign"])


def parse_sum(text: str, whole: str) -> Sum:
    """`0.9 * a.test/nll - 0.02` -> Sum."""
    terms: list[tuple[float, Reference]] = []
    constant, position, sign = 0.0, 0, 1.0
    pending: list[float | Reference] = []
    multiplied = True

    def close() -> None:
        nonlocal constant
        factor = math.prod(part for part in pending if isinstance(part, float)) * sign
        figures = [part for part in pending if isinstance(part, Reference)]
        if len(figures) > 1:
            raise UserError(f"the check '{whole}' multiplies two figures.", SIDES)
        if figures:
            terms.append((factor, figures[0]))
        else:
            constant += factor
        pending.clear()

    while position < len(text.rstrip()):
        match = TOKEN.match(text, position)
        if match is None or (not match["sign"] and pending and not multiplied):
            rest = text[position:].strip()
            raise UserError(f"the check '{whole}': '{rest}' is not understood.", SIDES)
        position = match.end()
        if match["sign"] == "*":
            multiplied = True
        elif match["sign"]:
            if pending:
                close()
                sign = 1.0
            sign = -sign if match["sign"] == "-" else sign
            multiplied = True
        else:
            multiplied = False
            pending.append(float(match["number"]) if match["number"] else reference(match["reference"]))
    if not pending:
        raise UserError(f"the check '{whole}' ends in the middle.", SIDES)
    close()
    return Sum(tuple(terms), constant)


def reference(text: str) -> Reference:
    """`arm[key=value].figure` -> Reference."""
    match = re.fullmatch(r"([a-z]\w*(?:\[[^\]]+\])?)\.(.+)", text)
    assert match is not None
    return Reference(match[1], match[2])


def parse_mapping(written: Mapping[str, Any]) -> Check:
    """A check that has too many parts for a sentence."""
    known = REACH if "reach" in written else RATE if "rate" in written else None
    text = "{" + ", ".join(f"{key}: {value}" for key, value in written.items()) + "}"
    if known is None:
        raise UserError(f"the check {text} is of no known kind.", "it begins with reach: or rate:")
    unknown = [key for key in written if key not in known]
    if unknown:
        raise UserError(f"the check {text}: there is no key '{unknown[0]}'.", did_you_mean(unknown[0], known))
    if "reach" in written:
        missing = {"level", "arm", "than"} - set(written)
        if missing:
            raise UserError(f"the check {text} needs {', '.join(sorted(missing))}.")
        level = written["level"]
        return Reach(
            text,
            figure=str(written["reach"]),
            arm=str(written["arm"]),
            than=str(written["than"]),
            level=level if isinstance(level, str) else float(level),
            unit={"steps": "step", "seconds": "second"}.get(unit := str(written.get("in", "step")), unit),
            factor=float(written.get("factor", 1.0)),
            above=bool(written.get("above", False)),
        )
    bounds_given = [key for key in ("at_most", "at_least", "equals") if key in written]
    if len(bounds_given) != 1 or not {"of", "arm"} <= set(written):
        raise UserError(f"the check {text} needs arm, of, and one of at_most, at_least, equals.")
    number, tolerance = float(written[bounds_given[0]]), float(written.get("tolerance", 0.0))
    least = -math.inf if bounds_given[0] == "at_most" else number - tolerance
    most = math.inf if bounds_given[0] == "at_least" else number + tolerance
    return Rate(text, str(written["arm"]), str(written["rate"]), str(written["of"]), least, most)

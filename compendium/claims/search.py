"""Equal tuning: as many random trials for every arm, from a stated space, on seeds that no result is reported of.

    search:
      metric: validate/nll             # the last value of a curve, or a test figure
      better: lower                    # or higher
      trials: 8                        # of each arm
      seeds: [1000]                    # from 1000 up
      space:                           # of every arm
        optimizer.lr: log 0.0001 0.1
        optimizer.momentum: choice 0 0.9
      arms:                            # an arm's own, beside or in the place of the common ones
        soap: {optimizer.lr: log 0.001 1}

Laws are `log LOW HIGH`, `uniform LOW HIGH` and `choice A B ...`. Trials are a Latin hypercube: each key's range is cut
into as many parts as there are trials, and each part is met once. A key of the same law has the same values in every
arm, so that two names of one method tie.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

from compendium.claims.claim import Claim
from compendium.errors import UserError, UserErrors, did_you_mean

BETTER = {"lower": min, "higher": max}
FIRST_SEED = 1000
"""Below it lie the seeds of results."""


@dataclass(frozen=True)
class Search:
    """A search.

    Attributes:
        metric: what trials are judged by: a logged curve's last value, or a figure of the test.
        trials: of each arm.
        space: key -> law, for every arm.
        arms: arm -> key -> law, beside or in the place of the common ones.
        seeds: each trial's; its value is the mean.
        better: `lower` or `higher`.
    """

    metric: str
    trials: int
    space: Mapping[str, str] = field(default_factory=dict)
    arms: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    seeds: Sequence[int] = (FIRST_SEED,)
    better: str = "lower"

    @classmethod
    def of(cls, written: Mapping[str, Any], arms: Sequence[str]) -> Search:
        """A search from plain values.

        Args:
            written: the `search:` of a claim.
            arms: the claim's arms.

        Raises:
            UserErrors: everything that is wrong with it.
        """
        names = [one.name for one in fields(cls)]
        errors = [
            UserError(f"search: there is no key '{key}'.", did_you_mean(key, names))
            for key in set(written) - set(names)
        ]
        errors += [
            UserError(f"search: {key} has no value.", f"search.{key}: ...")
            for key in ("metric", "trials")
            if key not in written
        ]
        if errors:
            raise UserErrors(errors)
        search = cls(**written)
        if not isinstance(search.trials, int) or search.trials < 1:
            errors.append(UserError(f"search.trials={search.trials}: a whole number, at least 1."))
        if search.better not in BETTER:
            errors.append(UserError(f"search.better={search.better}: lower or higher."))
        if not search.seeds or any(type(seed) is not int or seed < FIRST_SEED for seed in search.seeds):
            errors.append(UserError(f"search.seeds={list(search.seeds)}: seeds of tuning are {FIRST_SEED} and up."))
        errors += [
            UserError(f"search.arms: there is no arm '{arm}'.", did_you_mean(arm, arms))
            for arm in search.arms
            if arm not in arms
        ]
        for laws in (search.space, *search.arms.values()):
            for key, law in laws.items():
                try:
                    drawn(law, 0.5)
                except UserError as error:
                    errors.append(UserError(f"search: {key}: {error.what}", error.mend))
        if errors:
            raise UserErrors(errors)
        return search

    def points(self, arm: str) -> list[dict[str, str]]:
        """The values of an arm's trials, each once."""
        from scipy.stats.qmc import LatinHypercube

        from compendium.seeding import derive

        laws = {**self.space, **self.arms.get(arm, {})}
        places = {key: LatinHypercube(1, rng=derive(0, "search", key)).random(self.trials)[:, 0] for key in laws}
        found = [
            {key: drawn(law, float(places[key][trial])) for key, law in laws.items()} for trial in range(self.trials)
        ]
        return list({tuple(point.items()): point for point in found}.values())

    def at_an_edge(self, arm: str, values: Mapping[str, str]) -> list[str]:
        """Keys whose value lies in the outermost part of its range: the best may lie outside of it."""
        laws = {**self.space, **self.arms.get(arm, {})}
        points = self.points(arm)
        seen = {
            key: [float(point[key]) for point in points] for key, law in laws.items() if not law.startswith("choice")
        }
        return [key for key, numbers in seen.items() if float(values[key]) in (min(numbers), max(numbers))]


def drawn(law: str, place: float) -> str:
    """The value of a law at a place in [0, 1], as it is written on a command line; numbers have three digits.

    Raises:
        UserError: what is no law.
    """
    kind, *words = shlex.split(law)
    if kind == "choice" and words:
        return words[min(int(place * len(words)), len(words) - 1)]
    mend = "log LOW HIGH, uniform LOW HIGH, or choice A B ..."
    try:
        low, high = map(float, words)
    except ValueError:
        raise UserError(f"'{law}' is no law.", mend) from None
    if kind == "uniform" and low < high:
        return f"{low + place * (high - low):.3g}"
    if kind == "log" and 0 < low < high:
        return f"{math.exp(math.log(low) + place * math.log(high / low)):.3g}"
    raise UserError(f"'{law}' is no law.", mend)


def trials_of(claim: Claim, search: Search, arm: str) -> tuple[Claim, dict[str, dict[str, str]]]:
    """A claim whose arms are the trials of one arm, and the values of each."""
    points = {f"{arm}_{number:02d}": point for number, point in enumerate(search.points(arm))}
    texts = {name: shlex.join([f"{key}={value}" for key, value in point.items()]) for name, point in points.items()}
    arms = {name: f"{claim.arms[arm]} {text}" for name, text in texts.items()}
    name = f"{claim.name}_search_{arm}"
    return replace(
        claim, name=name, arms=arms, baseline="", checks=(), show=(search.metric,), curve="", seeds=tuple(search.seeds)
    ), points


def value_of(runs: Any, search: Search, name: str) -> float | None:
    """The mean over seeds of a trial's metric; None where a run failed, never logged it, or gave no finite number."""
    values = []
    for seed in search.seeds:
        value = runs.figure(name, search.metric, seed)
        if value is None:
            curve = runs.curve(name, search.metric, seed)
            value = curve[-1][1] if curve and runs.results[name, seed] is not None else None
        values.append(value)
    if any(value is None or not math.isfinite(value) for value in values):
        return None
    return sum(values) / len(values)


def run(
    claim: Claim,
    extra: Sequence[str],
    quiet: Sequence[str],
    work: Callable[[Any], bool],
    dry: Callable[[Any], int] | None,
) -> int:
    """Search for every arm, and print what came out.

    Args:
        claim: whose arms are tuned.
        extra, quiet: see `compendium.claims.plan.plan`.
        work: does the missing runs of a plan; whether it came to its end.
        dry: validates a plan instead; None: the runs are done.

    Returns:
        Exit code: 0, or 1 where no trial of an arm gave a figure.

    Raises:
        UserErrors: everything that is wrong with the search.
    """
    from compendium.claims.evidence import Runs
    from compendium.claims.plan import plan
    from compendium.run import make_folder, short, write_json

    if not claim.search:
        raise UserError(f"{claim.name} states no search.", "search: {metric: ..., trials: ..., space: ...}")
    search = Search.of(claim.search, list(claim.arms))
    searched = {arm: trials_of(claim, search, arm) for arm in claim.arms}
    plans = {arm: plan(trials, extra, quiet) for arm, (trials, _) in searched.items()}
    if dry is not None:
        return max(dry(planned) for planned in plans.values())
    code = 0
    for arm, (_, points) in searched.items():
        planned = plans[arm]
        if not work(planned):
            print("stopped; the same command does what is missing")
            return 130
        runs = Runs(planned)
        values = {name: value_of(runs, search, name) for name in points}
        for name, point in points.items():
            value = values[name]
            print(f"  {name}  {'no figure' if value is None else f'{value:.6g}':>10}  {words(point)}")
        good = {name: value for name, value in values.items() if value is not None}
        if not good:
            print(f"{arm}: no trial gave {search.metric}")
            code = 1
            continue
        best = BETTER[search.better](good, key=lambda name: good[name])
        print(f"{arm}: {search.metric} {good[best]:.6g} with {words(points[best])}")
        if edges := search.at_an_edge(arm, points[best]):
            print(f"  {', '.join(edges)} lies at the edge of its range: the best may lie beyond")
        make_folder(planned.folder)
        trials = [{"values": points[name], search.metric: values[name]} for name in points]
        write_json(planned.folder / "search.json", {"arm": arm, "best": points[best], "trials": trials})
        print(f"  {short(planned.folder / 'search.json')}")
    return code


def words(point: Mapping[str, str]) -> str:
    """Values as overrides."""
    return " ".join(f"{key}={value}" for key, value in point.items())

"""The runs that a comparison needs: every point of every arm for every seed, and the stages that they start from.

Each point is composed once, with a number for its seed that occurs nowhere else; that number is then replaced by each
seed, wherever it stands in the resolved config.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from compendium.claims.claim import STAGE, Claim
from compendium.compose import Composed, compose, parse
from compendium.errors import UserError, UserErrors, did_you_mean
from compendium.run import Run
from compendium.sweep import Job, parts

SEED = 948203571
"""Stands for the seed while a point is composed."""


@dataclass(frozen=True)
class Point:
    """One configuration: a plain arm, or one value of a swept one.

    Attributes:
        name: `arm` or `arm[key=value]`.
        arm: whose it is.
        overrides: everything that it is composed from, but the seed.
        key, value: what is swept; empty and 0 for a plain arm.
        stages: the stages that it starts from.
    """

    name: str
    arm: str
    overrides: tuple[str, ...]
    key: str = ""
    value: float = 0.0
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A comparison as runs.

    Attributes:
        claim: what is compared.
        points: every configuration, by name.
        jobs: (point, seed) -> run.
        stages: (stage, seed) -> run.
    """

    claim: Claim
    points: Mapping[str, Point]
    jobs: Mapping[tuple[str, int], Job]
    stages: Mapping[tuple[str, int], Job]

    @property
    def all(self) -> list[Job]:
        """Every run once, stages before what starts from them."""
        return list({job.run.folder: job for job in (*self.stages.values(), *self.jobs.values())}.values())

    def waits_for(self, job: Job) -> list[Path]:
        """Folders of the stages that must be done before a run starts."""
        # An arm and a stage may share a name: each is looked up in its own place.
        arms = [place for place, one in self.jobs.items() if one.run.folder == job.run.folder]
        if arms:
            name, seed = arms[0]
            names = self.points[name].stages
        else:
            name, seed = next(place for place, one in self.stages.items() if one.run.folder == job.run.folder)
            names = stages_of(self.claim.stages[name])
        return [self.stages[stage, seed].run.folder for stage in names]

    @cached_property
    def identity(self) -> str:
        """Eight hex digits from what is compared and checked, seeds included."""
        arms = {f"{name} {seed}": job.run.folder.name for (name, seed), job in self.jobs.items()}
        text = json.dumps([arms, [check.text for check in self.claim.parsed], list(self.claim.figures)], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    @property
    def name(self) -> str:
        """What ledger and folder are called."""
        return f"{self.claim.name.rpartition('/')[2]}-{self.identity}"

    @property
    def runs(self) -> Path:
        """Folder of the run folders."""
        return Path(str(self.all[0].run.config["runs"])).expanduser().absolute()

    @property
    def folder(self) -> Path:
        """Where the comparison's own files lie."""
        return self.runs / "comparisons" / self.name


def plan(claim: Claim, extra: Sequence[str] = (), quiet: Sequence[str] = ()) -> Plan:
    """Compose and check every run; nothing is written.

    Args:
        claim: what is compared.
        extra: overrides of all arms and stages that win over the claim's own.
        quiet: further ones, which are no part of what is compared: where runs lie, who watches them.

    Raises:
        UserErrors: all mistakes of all arms, each with its arm.
    """
    errors: list[UserError] = []
    stages: dict[tuple[str, int], Job] = {}
    jobs: dict[tuple[str, int], Job] = {}
    points: dict[str, Point] = {}

    def attempt(label: str, work: Any, *arguments: Any) -> Any:
        try:
            return work(*arguments)
        except UserError as error:
            errors.extend(UserError(f"{label}: {part.what}", part.mend) for part in parts(error))
            return None

    paths: dict[int, dict[str, str]] = {seed: {} for seed in claim.seeds}
    for name, text in claim.stages.items():
        overrides = (*opened(text), *extra, *quiet)
        composed = attempt(f"stage {name}", composed_point, overrides)
        for seed in claim.seeds if composed else ():
            run = planned(composed, seed, paths[seed])
            stages[name, seed] = Job(run, (*filled(overrides, paths[seed]), f"seed={seed}"))
            paths[seed][name] = checkpoint(run)
    for arm, text in claim.arms.items():
        overrides = (*opened(claim.base), *opened(text), *extra)
        found = attempt(f"arm {arm}", points_of, arm, overrides, stages_of(f"{claim.base} {text}"))
        points |= {point.name: point for point in found or ()}
    for point in points.values():
        composed = attempt(f"arm {point.name}", composed_point, (*point.overrides, *quiet))
        if not composed or errors:
            continue
        for seed in claim.seeds:
            run = planned(composed, seed, paths[seed])
            jobs[point.name, seed] = Job(run, (*filled(point.overrides, paths[seed]), *quiet, f"seed={seed}"))
    errors += twins(jobs)
    errors += unswept(claim, points)
    if errors:
        raise UserErrors(errors)
    return Plan(claim, points, jobs, stages)


def points_of(arm: str, overrides: Sequence[str], stages: tuple[str, ...]) -> list[Point]:
    """The points of an arm: one, or one for each value of its sweep.

    Raises:
        UserErrors: overrides that are none, two sweeps in one arm, values that are no numbers.
    """
    parsed, errors = parse(overrides)
    if errors:
        raise UserErrors(errors)
    swept = [override for override in parsed if override.is_sweep_override()]
    if not swept:
        return [Point(arm, arm, tuple(overrides), stages=stages)]
    if len(swept) > 1:
        raise UserError("it sweeps over two keys, and a trend has one.", "make an arm of each value of the other")
    key = swept[0].key_or_group
    rest = [one for one in overrides if one != swept[0].input_line]
    found = []
    for written in swept[0].sweep_string_iterator():
        try:
            value = float(written)
        except ValueError:
            raise UserError(f"{key}={written}: a swept value is a number.", "make an arm of each choice") from None
        name = f"{arm}[{key}={written}]"
        found.append(Point(name, arm, (*rest, f"{key}={written}"), key, value, stages))
    return sorted(found, key=lambda point: point.value)


def stages_of(text: str) -> tuple[str, ...]:
    """Names of the stages that overrides start from."""
    return tuple(dict.fromkeys(STAGE.findall(text)))


def opened(text: str) -> tuple[str, ...]:
    """Overrides from a text, with a mark in the place of each stage, which Hydra takes for a plain word."""
    return tuple(shlex.split(STAGE.sub(lambda match: mark(match[1]), text)))


def mark(stage: str) -> str:
    """What stands for a stage's checkpoint until the seed is known."""
    return f"__stage_{stage}__"


def composed_point(overrides: Sequence[str]) -> Composed:
    """A point with the place of its seed left open."""
    return compose([*overrides, f"seed={SEED}"])


def planned(composed: Composed, seed: int, paths: Mapping[str, str]) -> Run:
    """The run of a composed point for one seed."""
    return Run.plan(Composed(put(composed.values, seed, paths), composed.choices))


def put(value: Any, seed: int, paths: Mapping[str, str]) -> Any:
    """Plain values with the seed and the stages' checkpoints in their places."""
    if isinstance(value, dict):
        return {key: put(one, seed, paths) for key, one in value.items()}
    if isinstance(value, list):
        return [put(one, seed, paths) for one in value]
    if isinstance(value, str):
        for name, path in paths.items():
            value = value.replace(mark(name), path)
        return value.replace(str(SEED), str(seed))
    return seed if value == SEED and not isinstance(value, bool) else value


def filled(overrides: Sequence[str], paths: Mapping[str, str]) -> tuple[str, ...]:
    """Overrides as a person would type them: with the paths of the stages' checkpoints."""
    return tuple(put(one, 0, paths) for one in overrides)


def checkpoint(run: Run) -> str:
    """Where a stage leaves its weights, relative to here where `runs` is, so that the path says the same anywhere."""
    root = Path(str(run.config["runs"])).expanduser()
    monitored = run.config.get("callbacks", {}).get("checkpoint", {}).get("monitor")
    file = "best.ckpt" if monitored else "last.ckpt"
    return (root / run.folder.relative_to(root.absolute()) / "checkpoints" / file).as_posix()


def twins(jobs: Mapping[tuple[str, int], Job]) -> list[UserError]:
    """Arms that are the same run."""
    first: dict[Path, str] = {}
    errors: dict[str, UserError] = {}
    for (name, _), job in jobs.items():
        other = first.setdefault(job.run.folder, name)
        if other != name:
            what = f"arms {other} and {name} are the same run: they differ in nothing that changes what is computed."
            errors[what] = UserError(what, "give each arm what tells it from the others")
    return list(errors.values())


def unswept(claim: Claim, points: Mapping[str, Point]) -> list[UserError]:
    """Checks that speak of points which are not there."""
    errors = []
    arms = {point.arm: point.key for point in points.values()}
    for check in claim.parsed:
        if check.keys and not any(arms.get(arm) == key for arm, key in check.keys):
            arm, key = check.keys[0]
            mend = f"give it several values: {key}=1,2,4"
            errors.append(UserError(f"the check '{check.text}': arm {arm} is not swept over {key}.", mend))
        for reference in (*check.references, *check.curves):
            trend = any(arm == reference.arm for arm, _ in check.keys)
            if not trend and reference.arm in arms and reference.point not in points:
                mend = did_you_mean(reference.point, points)
                errors.append(UserError(f"the check '{check.text}': there is no point {reference.point}.", mend))
    return errors

"""What the runs of a comparison left: figures, curves, states, and whether they may be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from compendium.claims.claim import PROTOCOL
from compendium.claims.plan import Plan
from compendium.errors import UserError, UserErrors, did_you_mean
from compendium.run import read_log, short


class Runs:
    """The evidence in run folders, as `compendium.claims.checks.Evidence` asks for it. Files are read once.

    Args:
        plan: whose runs they are.
    """

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seeds: Sequence[int] = plan.claim.seeds
        self._curves: dict[tuple[str, int], list[dict[str, float]]] = {}

    @cached_property
    def results(self) -> dict[tuple[str, int], dict[str, Any] | None]:
        """`result.json` of every run; None where it is not done."""
        return {place: job.run.result for place, job in self.plan.jobs.items()}

    @property
    def complete(self) -> bool:
        return all(result is not None for result in self.results.values())

    def figure(self, point: str, name: str, seed: int) -> float | None:
        result = self.results[point, seed]
        return None if result is None else result["figures"].get(name)

    def log(self, point: str, seed: int) -> list[dict[str, float]]:
        """The metric log of a run; empty before it began."""
        place = (point, seed)
        if place not in self._curves:
            path = self.plan.jobs[place].run.folder / "metrics.jsonl"
            self._curves[place] = read_log(path) if path.is_file() else []
        return self._curves[place]

    def curve(self, point: str, name: str, seed: int) -> list[tuple[float, float]]:
        return [(line["step"], line[name]) for line in self.log(point, seed) if name in line]

    def seconds_per_step(self, point: str, seed: int) -> float | None:
        result = self.results[point, seed]
        return None if result is None else result.get("training", {}).get("seconds_per_step")

    def swept(self, arm: str) -> list[tuple[str, float, str]]:
        return [(one.key, one.value, one.name) for one in self.plan.points.values() if one.arm == arm and one.key]

    def why_missing(self, point: str, seed: int) -> str:
        """What became of a run that left no result."""
        status = self.plan.jobs[point, seed].run.status
        reason = str(status.get("reason", "")).splitlines()
        return f"{status['state']}{': ' + reason[0] if reason else ''}"

    def unknown_figures(self, results: dict[str, dict[str, Any]], log: dict[str, list[dict[str, float]]]) -> None:
        """Refuse checks of figures that no run has, as far as trial runs tell.

        Args:
            results: arm -> `result.json` of a trial of it.
            log: arm -> metric log of a trial of it.

        Raises:
            UserErrors: each with the nearest figure that there is.
        """
        errors = []
        for check in self.plan.claim.parsed:
            wanted = [(of, set(results.get(of.arm, {}).get("figures", {}))) for of in check.references]
            wanted += [(of, {name for line in log.get(of.arm, []) for name in line}) for of in check.curves]
            for of, known in wanted:
                if of.arm in results and of.figure not in known:
                    mend = did_you_mean(of.figure, known - {"step"})
                    errors.append(UserError(f"the check '{check.text}': arm {of.arm} has no {of.figure}.", mend))
        if errors:
            raise UserErrors(list({str(error): error for error in errors}.values()))

    def comparable(self) -> None:
        """Refuse runs that were evaluated under different protocols: seed by seed, and value by value of a sweep.

        Raises:
            UserErrors: what differs, between which runs, and what to do about it.
        """
        errors: dict[str, UserError] = {}
        groups: dict[tuple[int, float], list[str]] = {}
        for name, seed in self.results:
            groups.setdefault((seed, self.plan.points[name].value), []).append(name)
        for (seed, _), names in groups.items():
            results = {name: self.results[name, seed] for name in names}
            known = {name: result["protocol"] for name, result in results.items() if result and "protocol" in result}
            for part in PROTOCOL:
                if part in self.plan.claim.differ or len({one[part] for one in known.values()}) < 2:
                    continue
                first, *others = known
                other = next(name for name in others if known[name][part] != known[first][part])
                errors[part] = UserError(*self.unlike(part, first, other, seed, known))
        if errors:
            raise UserErrors(list(errors.values()))

    def unlike(self, part: str, first: str, other: str, seed: int, known: dict[str, dict[str, str]]) -> tuple[str, str]:
        """What differs between two runs, and how to mend it."""
        folders = [short(self.plan.jobs[name, seed].run.folder) for name in (first, other)]
        where = f"({folders[0]} and {folders[1]})"
        if part == "split":
            what = f"arms {first} and {other} are not evaluated on the same records {where}."
            return what, "give them the same data, shares and seeds; force=true compares them all the same"
        if part == "selection":
            chosen = " and ".join(f"'{known[name][part]}'" for name in (first, other))
            what = f"arms {first} and {other} select their weights differently: {chosen} {where}."
            return what, "give them the same callbacks.checkpoint.monitor; force=true compares them all the same"
        if part == "evaluations":
            what = f"arms {first} and {other} have other settings of their evaluations {where}."
            return what, "give them the same callbacks.evaluation.*; force=true compares them all the same"
        what = f"arms {first} and {other} were evaluated by different versions of the metrics {where}."
        return what, "resume=never runs them again; force=true compares them all the same"

    def codes(self) -> dict[str, int]:
        """How many runs each version of the code has made."""
        found: dict[str, int] = {}
        for result in self.results.values():
            if result is not None:
                made = result.get("code", "unknown")
                found[made] = found.get(made, 0) + 1
        return found

"""The result of a comparison as plain values: tables, pictures, pages and the paper index are made from it alone.

What a rerun on the same machine gives again stands at the top; when and how it was made stands under `made`.
"""

from __future__ import annotations

import datetime
import math
import os
import platform
import shlex
import statistics
import subprocess
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from compendium import __version__
from compendium.claims.checks import FAILS, HOLDS, INCONCLUSIVE
from compendium.claims.evidence import Runs
from compendium.claims.plan import Plan
from compendium.claims.statistics import differences, mean_interval
from compendium.config import ROOT
from compendium.protocol import code

RESULTS = ROOT / "results"
POINTS = 60
"""Of a curve in a result file: enough for a picture."""
LIBRARIES = ("torch", "lightning", "torchmetrics", "scikit-learn", "scipy", "statsmodels")


def record(plan: Plan, runs: Runs, command: str) -> dict[str, Any]:
    """The whole result.

    Args:
        plan: what was compared.
        runs: what the runs left.
        command: by which anybody gets it again.
    """
    claim = plan.claim
    verdicts = [check.judge(runs) for check in claim.parsed]
    checks = [
        {
            "check": check.text,
            "kind": check.kind,
            "verdict": found.verdict,
            "why": found.why,
            "interval": vars(found.interval) if found.interval else None,
            "p": found.p,
            "detectable": found.detectable,
            "values": found.values,
        }
        for check, found in zip(claim.parsed, verdicts, strict=True)
    ]
    done = [result for result in runs.results.values() if result is not None]
    return plain(
        {
            "claim": claim.name,
            "paper": claim.paper,
            "statement": claim.statement,
            "verdict": overall([found.verdict for found in verdicts]),
            "checks": checks,
            "figures": list(shown(plan, runs)),
            "baseline": claim.compared_with,
            "seeds": list(claim.seeds),
            "scale": claim.scaled,
            "config": plan.identity,
            "table": table(plan, runs),
            "curve": curve(plan, runs),
            "arms": {
                point.name: {
                    "overrides": shlex.join(point.overrides),
                    "arm": point.arm,
                    "key": point.key,
                    "value": point.value if point.key else None,
                    "runs": {
                        str(seed): result["figures"] if (result := runs.results[point.name, seed]) else None
                        for seed in claim.seeds
                    },
                }
                for point in plan.points.values()
            },
            "stages": dict(claim.stages),
            "missing": {
                f"{name}, seed {seed}": runs.why_missing(name, seed)
                for (name, seed), result in runs.results.items()
                if result is None
            },
            "deviations": list(claim.deviations),
            "tuning": claim.tuning,
            "made": {
                "command": command,
                "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
                "commit": commit(),
                "code": code(),
                "seconds": round(sum(result["seconds"] for result in done), 1),
                "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
                "versions": {"compendium": __version__, "python": platform.python_version()}
                | {name: version(name) for name in LIBRARIES},
            },
        }
    )


def overall(verdicts: Sequence[str]) -> str:
    """The verdict on a claim: it holds if all of its checks do, and fails if one does; empty without checks."""
    if not verdicts:
        return ""
    return min(verdicts, key=(FAILS, INCONCLUSIVE, HOLDS).index)


def shown(plan: Plan, runs: Runs) -> list[str]:
    """The figures of table and picture: the claim's own, or all test figures that every arm has."""
    if plan.claim.figures:
        return plan.claim.figures
    have = [set(result["figures"]) for result in runs.results.values() if result is not None]
    common = set.intersection(*have) if have else set()
    found = [name for result in runs.results.values() if result for name in result["figures"] if name in common]
    return list(dict.fromkeys(found))


def table(plan: Plan, runs: Runs) -> list[dict[str, Any]]:
    """A row per figure and point: mean, standard deviation, n, 95% interval, and the paired difference."""
    rows: list[dict[str, Any]] = []
    for figure in shown(plan, runs):
        values = {name: finite(runs, name, figure) for name in plan.points}
        compared = compared_points(plan)
        paired = {
            name: [value - values[base][seed] for seed, value in values[name].items() if seed in values[base]]
            for name, base in compared.items()
        }
        found = differences({name: numbers for name, numbers in paired.items() if numbers})
        for name in plan.points:
            numbers = list(values[name].values())
            row: dict[str, Any] = {"figure": figure, "arm": name, "n": len(numbers)}
            if numbers:
                interval = mean_interval(numbers, sides=2)
                spread = statistics.stdev(numbers) if len(numbers) > 1 else None
                row |= {"mean": interval.estimate, "sd": spread, "low": interval.low, "high": interval.high}
            if name in found:
                difference = found[name]
                row["difference"] = {"to": compared[name], **vars(difference.interval), "p": difference.p}
            rows.append(row)
    return rows


def finite(runs: Runs, point: str, figure: str) -> dict[int, float]:
    """A figure for each seed that has a finite one."""
    found = {seed: runs.figure(point, figure, seed) for seed in runs.seeds}
    return {seed: value for seed, value in found.items() if value is not None and math.isfinite(value)}


def compared_points(plan: Plan) -> dict[str, str]:
    """Point -> the baseline's point beside it: at the same value of a sweep, where both are swept over the same key."""
    base = [point for point in plan.points.values() if point.arm == plan.claim.compared_with]
    found = {}
    for point in plan.points.values():
        if point.arm == plan.claim.compared_with:
            continue
        same = [one.name for one in base if (one.key, one.value) == (point.key, point.value)]
        alone = [one.name for one in base if not one.key]
        if same or alone:
            found[point.name] = (same or alone)[0]
    return found


def curve(plan: Plan, runs: Runs) -> dict[str, Any] | None:
    """Mean and 95% interval over seeds of the claim's logged figure at the steps that all seeds have."""
    name = plan.claim.curve
    if not name:
        return None
    found: dict[str, Any] = {}
    for point in plan.points:
        curves = [dict(runs.curve(point, name, seed)) for seed in plan.claim.seeds]
        steps = sorted(set.intersection(*map(set, curves))) if all(curves) else []
        steps = [step for step in steps if all(math.isfinite(one[step]) for one in curves)]
        stride = max(1, math.ceil(len(steps) / POINTS))
        steps = sorted({*steps[::-1][::stride]})
        intervals = [mean_interval([one[step] for one in curves], sides=2) for step in steps]
        found[point] = {
            "step": steps,
            "mean": [one.estimate for one in intervals],
            "low": [one.low for one in intervals],
            "high": [one.high for one in intervals],
        }
    return {"figure": name, "arms": found}


def commit() -> str:
    """The commit of the checkout, with `+` where files differ from it; empty outside of git."""
    git = ["git", "-C", str(ROOT)]
    try:
        found = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=True)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--untracked-files=no", "--", ":!results", ":!docs"],
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip() + ("+" if changed.stdout.strip() else "")


def plain(value: Any) -> Any:
    """Values as JSON has them: what is not finite becomes a word."""
    if isinstance(value, dict):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def number(value: Any) -> float:
    """A number of a result file: `plain` undone."""
    return math.nan if value is None else float(value)


def stored_path(name: str) -> Path:
    """Where the result of a stored claim is recorded."""
    return RESULTS / f"{name}.json"

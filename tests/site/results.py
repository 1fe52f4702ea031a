"""Results as the site finds them: the recorded ones, and made-up ones for claims that were not run yet.

python -m tests.site.results FOLDER build ...     does what MkDocs does, with the results of a folder
"""

from __future__ import annotations

import json
import random
import shutil
import sys
from pathlib import Path

from compendium.claims import record
from compendium.claims.claim import Claim
from compendium.claims.evidence import Runs
from compendium.claims.plan import plan
from compendium.config import choices
from compendium.run import make_folder, write_json

STEPS = range(0, 200, 20)


def fill(folder: Path, runs: Path) -> list[str]:
    """Write a result for every stored claim.

    Args:
        folder: of the results.
        runs: a folder for the runs that are made up.

    Returns:
        Names of the claims whose result is made up.
    """
    shutil.copytree(record.RESULTS, folder, dirs_exist_ok=True)
    missing = [name for name in choices("claim") if not (folder / f"{name}.json").is_file()]
    for name in missing:
        make_folder((folder / name).parent)
        write_json(folder / f"{name}.json", made_up(name, runs))
    return missing


def made_up(name: str, runs: Path) -> dict:
    """The result of a claim, by the claims' own code, from figures that are drawn at random."""
    planned = plan(Claim.stored(name), [f"runs={runs}"])
    draw = random.Random(name)
    referred = [of.figure for check in planned.claim.parsed for of in (*check.references, *check.curves)]
    figures = {figure: draw.uniform(0.2, 0.8) for figure in dict.fromkeys(referred)}
    for (point, _), job in planned.jobs.items():
        level = 0.02 * list(planned.points).index(point)
        drawn = {figure: value + level + draw.gauss(0, 0.02) for figure, value in figures.items()}
        lines = [{"step": step, **{name: value + 1 / (step + 20) for name, value in drawn.items()}} for step in STEPS]
        make_folder(job.run.folder)
        write_json(job.run.folder / "result.json", {"figures": drawn, "seconds": 1.5})
        (job.run.folder / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return record.record(planned, Runs(planned), f"python compare.py claim={name}")


def main(folder: str, *arguments: str) -> None:
    """MkDocs with the results of a folder."""
    from mkdocs.__main__ import cli

    record.RESULTS = Path(folder)
    cli(arguments)


if __name__ == "__main__":
    main(*sys.argv[1:])

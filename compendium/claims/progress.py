"""What runs, what is done, and when it will end: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compendium.claims.plan import Plan
from compendium.pool import Child, Pool
from compendium.run import short

REFRESH_SECONDS = 0.5


class Progress:
    """Watches a pool.

    Args:
        plan: whose runs it does.
        done: runs that were done before.
    """

    def __init__(self, plan: Plan, done: int = 0) -> None:
        self.names: dict[Path, str] = {}
        for (name, seed), job in (*plan.stages.items(), *plan.jobs.items()):
            self.names.setdefault(job.run.folder, f"{name} seed {seed}")
        self.groups = {folder: label.rpartition(" seed ")[0] for folder, label in self.names.items()}
        self.before = done
        self.began = time.monotonic()
        self.drawn = 0.0
        self.told: set[int] = set()
        self.live: Any = None

    def __enter__(self) -> Progress:
        if sys.stdout.isatty():
            from rich.live import Live

            self.live = Live(auto_refresh=False, transient=True)
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live is not None:
            self.live.stop()

    def __call__(self, pool: Pool) -> None:
        for child in pool.ended:
            if id(child) not in self.told:
                self.told.add(id(child))
                self.say(self.outcome(child, pool))
        now = time.monotonic()
        if self.live is not None and now - self.drawn > REFRESH_SECONDS:
            self.drawn = now
            self.live.update(self.table(pool), refresh=True)

    def say(self, line: str) -> None:
        """A line that stays."""
        if self.live is not None:
            self.live.console.print(line, markup=False, highlight=False)
        else:
            print(line, flush=True)

    def outcome(self, child: Child, pool: Pool) -> str:
        """How a run went, and what is left."""
        name = self.names.get(child.run.folder, child.run.title)
        total = self.before + len(pool.ended) + len(pool.working) + len(pool.waiting)
        head = f"{self.before + len(pool.ended)}/{total}  {name}: "
        if child.state == "failed":
            return f"{head}failed, {child.reason} ({short(child.run.folder / 'output.txt')})"
        if child.state == "stopped":
            return f"{head}stopped with its state saved"
        return f"{head}done in {child.seconds:.0f} s{self.remaining(pool)}"

    def remaining(self, pool: Pool) -> str:
        """When it will end, from how long runs of the same arm took; empty where nothing tells yet."""
        if not (pool.waiting or pool.working):
            return ""
        took: dict[str, list[float]] = {}
        for child in pool.ended:
            if child.state == "done":
                took.setdefault(self.groups.get(child.run.folder, ""), []).append(child.seconds)
        if not took:
            return ""
        seconds = left(took, pool, self.groups) / len(pool.shares)
        ending = time.strftime("%H:%M:%S", time.localtime(time.time() + seconds))
        return f"; about {duration(seconds)} left, until {ending}"

    def table(self, pool: Pool) -> Any:
        """The live view: a row per arm, and the runs at work."""
        from rich.table import Table

        shown = Table(box=None, pad_edge=False)
        for column in ("arm", "done", "running", "waiting"):
            shown.add_column(column, justify="left" if column == "arm" else "right")
        for group in dict.fromkeys(self.groups.values()):
            counts = [
                sum(self.groups.get(folder) == group for folder in folders)
                for folders in (
                    [child.run.folder for child in pool.ended],
                    [child.run.folder for child in pool.working],
                    [task.run.folder for task in pool.waiting],
                )
            ]
            shown.add_row(group, *map(str, counts))
        at_work = "  ".join(
            f"{self.names.get(child.run.folder, child.run.title)} ({time.monotonic() - child.began:.0f} s)"
            for child in pool.working
        )
        shown.caption = f"{at_work}\n{duration(time.monotonic() - self.began)} so far{self.remaining(pool)}"
        shown.caption_justify = "left"
        return shown


def left(took: Mapping[str, list[float]], pool: Pool, groups: Mapping[Path, str]) -> float:
    """Seconds of work that are left, over all runs."""
    overall = statistics.fmean([one for seconds in took.values() for one in seconds])

    def expected(folder: Path) -> float:
        return statistics.fmean(took.get(groups.get(folder, ""), [overall]))

    waiting = sum(expected(task.run.folder) for task in pool.waiting)
    return waiting + sum(max(0.0, expected(c.run.folder) - (time.monotonic() - c.began)) for c in pool.working)


def duration(seconds: float) -> str:
    """`42 s`, `3 min 10 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"

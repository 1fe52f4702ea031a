"""A sweep on this machine: each job is a process of its own."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from compendium.errors import UserError
from compendium.pool import Child, Pool, Task, shares
from compendium.run import short
from compendium.sweep import Job, Ledger
from hydra_plugins.compendium_launchers._base import FolderLauncher


class ProcessesLauncher(FolderLauncher):
    """Runs the jobs of a sweep as processes, several at a time; one that fails does not stop the others.

    Args:
        parallel: jobs at a time.
    """

    name = "processes"

    def __init__(self, parallel: int = 1) -> None:
        super().__init__()
        self.parallel = parallel

    def check(self, jobs: Sequence[Job]) -> None:
        if self.parallel < 1:
            raise UserError(f"hydra.launcher.parallel={self.parallel}: at least 1.")

    def start(self, jobs: Sequence[Job], ledger: Ledger) -> set[Path]:
        threads = os.environ.get("OMP_NUM_THREADS", "")
        pool = Pool(shares(self.parallel, int(threads) if threads.isdigit() else None), Lines())
        pool.work([Task(job.run) for job in jobs])
        return {child.run.folder for child in pool.ended if child.state == "failed"}


class Lines:
    """A line for each job that starts and for each that ends."""

    def __init__(self) -> None:
        self.started: list[Child] = []
        self.told = 0

    def __call__(self, pool: Pool) -> None:
        for child in pool.working:
            if child not in self.started:
                self.started.append(child)
                print(f"started: {child.run.title}, {short(child.run.folder)}", flush=True)
        for child in pool.ended[self.told :]:
            print(outcome(child), flush=True)
        self.told = len(pool.ended)


def outcome(child: Child) -> str:
    """How a job went."""
    if child.state == "failed":
        head = f"failed after {child.seconds:.0f} s: {child.run.title}: {child.reason}"
        return f"{head}\n  {short(child.run.folder / 'output.txt')}"
    if child.state == "stopped":
        return f"stopped: {child.run.title}; the same command continues"
    return f"done in {child.seconds:.0f} s: {child.run.title}"

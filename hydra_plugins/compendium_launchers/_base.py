"""What the launchers share: from Hydra's overrides to frozen run folders and a ledger."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher

from compendium.jobs import Cluster, Row
from compendium.run import short
from compendium.sweep import Job, Ledger, frozen, plan


class FolderLauncher(Launcher):
    """A launcher whose jobs are run folders. Hydra is told that each went well: what became of it is in its folder."""

    name: str
    environment: dict[str, str] = {}
    """Variables that configs may read, as they will be where the jobs run."""

    def setup(self, **hydra: Any) -> None:
        """Nothing of Hydra's is needed: jobs are composed by `compendium.compose`."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Check all jobs, freeze those that are not done, and start them.

        Returns:
            For each job its folder, and whether it failed as far as is known by now.
        """
        jobs = plan(job_overrides, self.environment)
        failed: set[Path] = set()
        if jobs[0].run.config["dry"]:
            for job in jobs:
                print(f"{job.run.title}: {short(job.run.folder)} ({job.run.status['state']})")
        else:
            self.check(jobs)
            failed = self.go(jobs)
        status = {True: JobStatus.FAILED, False: JobStatus.COMPLETED}
        return [
            JobReturn(list(job.overrides), working_dir=str(job.run.folder), status=status[job.run.folder in failed])
            for job in jobs
        ]

    def go(self, jobs: Sequence[Job]) -> set[Path]:
        """Write the ledger and start what is missing.

        Returns:
            Folders of the jobs that failed.
        """
        ledger = Ledger.of(jobs, self.name)
        cluster = Cluster()
        rows = [Row.of(job.run.folder, ledger.jobs[str(job.run.folder)].get("job"), cluster) for job in jobs]
        todo = [self.ready(job) for job, row in zip(jobs, rows, strict=True) if not left_alone(job, row)]
        ledger.write()
        runs = str(jobs[0].run.config["runs"])
        where = "" if runs == "runs" else f" --runs {runs}"
        print(f"sweep {ledger.name}: {len(todo)} of {len(jobs)} jobs to do")
        print(f"  watch it from anywhere: python -m compendium.jobs status {ledger.name}{where}", flush=True)
        return self.start(todo, ledger) if todo else set()

    def ready(self, job: Job) -> Job:
        """The job with its folder frozen; with `resume=never`, after what was there is set aside."""
        return frozen(Job(job.run.afresh(), job.overrides))

    def check(self, jobs: Sequence[Job]) -> None:
        """Refuse what this launcher cannot run."""

    @abstractmethod
    def start(self, jobs: Sequence[Job], ledger: Ledger) -> set[Path]:
        """Start the jobs, whose folders are frozen.

        Returns:
            Folders of those that failed.
        """


def left_alone(job: Job, row: Row) -> bool:
    """Whether a job needs no start: it is done, or somebody is at it."""
    if row.state in ("running", "queued"):
        where = f" as SLURM job {row.job}" if row.job else ""
        print(f"{row.state} already{where}: {job.run.title}, {short(job.run.folder)}")
        return True
    config = job.run.config
    if job.run.result is not None and config["run"] == "fit" and config["resume"] == "auto":
        print(f"done already: {job.run.title}, {short(job.run.folder)}")
        return True
    return False

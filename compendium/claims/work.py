"""The runs of a comparison done: trials first, then what is missing, as processes here or as SLURM jobs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from compendium.claims.evidence import Runs
from compendium.claims.plan import Plan, checkpoint, stages_of
from compendium.claims.progress import Progress
from compendium.errors import UserError, UserErrors
from compendium.interruption import interruption
from compendium.jobs import ACTIVE, Cluster, Row
from compendium.pool import Pool, Share, Task
from compendium.run import Run, read_log, short
from compendium.sweep import Job, Ledger, frozen

TRIAL = {
    "max_epochs": 1,
    "max_steps": 1,
    "limit_train_batches": 1,
    "limit_val_batches": 1,
    "limit_test_batches": 1,
    "check_val_every_n_epoch": 1,
    "val_check_interval": 1.0,
    "accumulate_grad_batches": 1,
}
"""What makes a run a trial of itself: one batch of everything."""


def ledger_of(plan: Plan, launcher: str, command: str, arguments: Sequence[str]) -> Ledger:
    """The file by which other shells find the comparison's runs; what SLURM was told before is kept."""
    return Ledger.named(plan.name, plan.all, launcher, command, arguments)


def missing(plan: Plan, ledger: Ledger) -> tuple[list[Job], list[Row]]:
    """(runs that nobody does and that are not done, rows of those that somebody is at)."""
    cluster = Cluster()
    submitted = {folder: entry.get("job") for folder, entry in ledger.jobs.items()}
    rows = [(job, Row.of(job.run.folder, submitted[str(job.run.folder)], cluster)) for job in plan.all]
    left = [(job, row) for job, row in rows if job.run.result is None]
    arms = {job.run.folder for job in plan.jobs.values()}
    # A stage is done for the runs that start from it: where those are done, it may be gone.
    needed = arms.union(*(plan.waits_for(job) for job, _ in left if job.run.folder in arms))
    needed = needed.union(*(plan.waits_for(job) for job, _ in left if job.run.folder in needed))
    todo = [job for job, row in left if row.state not in ACTIVE and job.run.folder in needed]
    return todo, [row for _, row in left if row.state in ACTIVE]


def here(plan: Plan, ledger: Ledger, shares: Sequence[Share]) -> None:
    """Do what is missing, as processes on this machine, and wait for runs that another command is at."""
    todo, active = missing(plan, ledger)
    ledger.write()
    doing = {job.run.folder for job in todo}
    tasks = []
    for job in todo:
        task = frozen(job)
        tasks.append(Task(task.run, tuple(folder for folder in plan.waits_for(job) if folder in doing)))
    done = len(plan.all) - len(todo) - len(active)
    if tasks:
        print(f"{len(tasks)} runs to do, {done} done before; {len(shares)} at a time", flush=True)
        with Progress(plan, done) as progress:
            Pool(shares, progress).work(tasks)
    for row in active:
        print(f"waiting for {row.name}, which another command is at", flush=True)
        while interruption.signum is None and Row.of(row.run.folder, row.job, Cluster()).state in ACTIVE:
            time.sleep(1)


def on_slurm(plan: Plan, ledger: Ledger, options: Mapping[str, Any]) -> int:
    """Submit what is missing, stages first, and return.

    Returns:
        How many jobs were submitted.
    """
    from hydra_plugins.compendium_launchers.slurm import SlurmLauncher

    launcher = SlurmLauncher(**options)
    todo, active = missing(plan, ledger)
    launcher.check(todo)
    ledger.write()
    for row in active:
        ending = "; it is ending, and the same command continues it then" if row.reason == "completing" else ""
        print(f"{row.state} already: {row.name}" + (f", SLURM job {row.job}" if row.job else "") + ending)
    level: list[Job] = [frozen(job) for job in todo]
    # SLURM may have forgotten the job of a stage that is done, and nothing waits for that one.
    undone = {job.run.folder for job in plan.all if job.run.result is None}
    waiting = {job.run.folder: undone.intersection(plan.waits_for(job)) for job in level}
    while level:
        left = {job.run.folder for job in level}
        now = [job for job in level if not waiting[job.run.folder] & left]
        level = [job for job in level if job not in now]
        stages = {str(folder) for job in now for folder in waiting[job.run.folder]}
        after = {ledger.jobs[folder]["job"] for folder in stages if "job" in ledger.jobs[folder]}
        launcher.submit(now, ledger, sorted(after))
    return len(todo)


def trial(plan: Plan, shares: Sequence[Share], runs: Runs) -> None:
    """One batch of each configuration that has not begun, before any long run.

    Raises:
        UserErrors: configurations that fail, with what they say; checks of figures that no run has.
    """
    seed = plan.claim.seeds[0]
    fresh = [name for name in plan.points if not plan.jobs[name, seed].run.begun]
    if not fresh:
        return
    folder = plan.folder / "trial"
    shutil.rmtree(folder, ignore_errors=True)
    moved: dict[str, str] = {}
    tasks: list[Task] = []
    stages = {stage for name in fresh for stage in plan.points[name].stages}
    names = [name for name in plan.claim.stages if name in reachable(plan, stages)]
    for stage in names:
        job = plan.stages[stage, seed]
        run = tried(job.run, folder / f"stage-{stage}", moved)
        moved[checkpoint(job.run)] = (run.checkpoints / Path(checkpoint(job.run)).name).as_posix()
        tasks.append(Task(run, tuple(task.run.folder for task in tasks)))
    first = tuple(task.run.folder for task in tasks)
    trials = {name: tried(plan.jobs[name, seed].run, folder / name.replace("/", "-"), moved) for name in fresh}
    tasks += [Task(run, first) for run in trials.values()]
    print(f"a trial of {len(tasks)} configurations, one batch each", flush=True)
    pool = Pool(shares)
    pool.work(tasks)
    if interruption.signum is not None:
        return
    failed = [child for child in pool.ended if child.state == "failed"]
    if failed:
        raise UserErrors([broken(child.run, child.reason) for child in failed])
    arms = {plan.points[name].arm: run for name, run in trials.items()}
    runs.unknown_figures(
        {arm: run.result or {} for arm, run in arms.items()},
        {arm: read_log(run.folder / "metrics.jsonl") for arm, run in arms.items()},
    )
    shutil.rmtree(folder, ignore_errors=True)


def reachable(plan: Plan, stages: set[str]) -> set[str]:
    """Stages, and the stages that they start from."""
    found = set(stages)
    while more := {one for name in found for one in stages_of(plan.claim.stages[name])} - found:
        found |= more
    return found


def tried(run: Run, folder: Path, moved: Mapping[str, str]) -> Run:
    """The trial of a run, frozen in a folder of its own, starting from the trials of its stages."""
    config = replaced(run.config | {"resume": "auto", "logger": {}, "dry": False}, moved)
    trainer = config["trainer"] | TRIAL
    if run.config["trainer"]["max_epochs"] == 0:
        trainer["max_epochs"] = 0
    trial = Run(config | {"trainer": trainer}, folder)
    trial.freeze()
    return trial


def replaced(value: Any, words: Mapping[str, str]) -> Any:
    """Plain values with some strings replaced."""
    if isinstance(value, dict):
        return {key: replaced(one, words) for key, one in value.items()}
    if isinstance(value, list):
        return [replaced(one, words) for one in value]
    return words.get(value, value) if isinstance(value, str) else value


def broken(run: Run, reason: str) -> UserError:
    """A configuration whose trial failed, with what it said."""
    output = run.folder / "output.txt"
    said = (
        [line for line in output.read_text(errors="replace").splitlines() if line.strip()] if output.is_file() else []
    )
    own = [line.partition("error: ")[2] for line in said if line.startswith("error: ")]
    what = own[-1] if own else reason
    return UserError(
        f"{run.folder.name} fails on its first batch: {what}", f"everything that it printed: {short(output)}"
    )

"""Sweeps: every job is composed and checked before the first one starts, frozen into its folder, and kept in a ledger.

The ledger is a file per sweep, `RUNS/sweeps/HASH.json`, where the hash is that of the jobs' overrides: the same command
finds its ledger again and runs only what is missing. What became of a job stands in its own run folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

from compendium.errors import UserError, UserErrors
from compendium.run import Run, make_folder, read_json, short, write_json

LAUNCH_VARIABLES = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
"""What a process tells the other processes of its own run. A job of a sweep is a run of its own and must not see it."""

STEP_VARIABLES = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")
"""The same for the srun step that a sweep on this machine was started from."""


@dataclass
class Outcome:
    """How the sweep of this process went. Hydra calls the launcher, and hands nothing back.

    Attributes:
        failed: jobs that failed.
        error: the mistake that no job could start for.
        signum: the signal that stopped it.
    """

    failed: int = 0
    error: UserError | None = None
    signum: int | None = None

    def exit_code(self) -> int:
        """0 done, 1 some job failed, 128 + N stopped by signal N.

        Raises:
            UserError: the mistake that no job could start for.
        """
        if self.error is not None:
            raise self.error
        return 128 + self.signum if self.signum else int(bool(self.failed))


outcome = Outcome()


@dataclass(frozen=True)
class Job:
    """One job of a sweep.

    Attributes:
        run: what it does.
        overrides: what it was composed from.
    """

    run: Run
    overrides: tuple[str, ...]


@dataclass
class Ledger:
    """The file that tells the jobs of a sweep together.

    Attributes:
        path: where it lies.
        command: what started it.
        launcher: `processes` or `slurm`.
        time: when it was started last.
        jobs: run folder -> {"overrides": [...], "job": SLURM's id, where it has one}.
    """

    path: Path
    command: str
    launcher: str
    time: float
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.path.stem

    @classmethod
    def of(cls, jobs: Sequence[Job], launcher: str) -> Ledger:
        """The ledger of a sweep; what an earlier start of the same sweep knew of its SLURM jobs is kept."""
        text = json.dumps([job.overrides for job in jobs])
        name = hashlib.sha256(text.encode()).hexdigest()[:8]
        root = Path(str(jobs[0].run.config["runs"])).expanduser().absolute()
        path = root / "sweeps" / f"{name}.json"
        known = cls.read(path).jobs if path.is_file() else {}
        folders = [str(job.run.folder) for job in jobs]
        entries = {
            folder: known.get(folder, {}) | {"overrides": list(job.overrides)}
            for folder, job in zip(folders, jobs, strict=True)
        }
        return cls(path, shlex.join(["python", "train.py", *sys.argv[1:]]), launcher, time.time(), entries)

    @classmethod
    def read(cls, path: Path) -> Ledger:
        return cls(path, **read_json(path))

    def write(self) -> None:
        make_folder(self.path.parent)
        write_json(self.path, {key: value for key, value in vars(self).items() if key != "path"})


def ledgers(runs: Path) -> list[Ledger]:
    """All sweeps below a folder of runs, the latest last."""
    return sorted((Ledger.read(path) for path in (runs / "sweeps").glob("*.json")), key=lambda ledger: ledger.time)


def check(arguments: Sequence[str]) -> list[str]:
    """Compose and check every job of a sweep, before Hydra starts.

    Args:
        arguments: the command line of train.py, Hydra's flags included.

    Returns:
        The same as Hydra understands it: one path in `data=` is spelled out.

    Raises:
        UserErrors: all mistakes of all jobs, each once.
    """
    from compendium.compose import expand_path

    vars(outcome).update(vars(Outcome()))
    arguments = [part for argument in arguments for part in expand_path(argument)]
    if {"-m", "--multirun"} & set(arguments):
        overrides = [argument for argument in arguments if not argument.startswith("-")]
        if not any(override.startswith("hydra/sweeper=") for override in overrides):  # it knows what its jobs are
            plan(combinations(overrides))
    return arguments


def combinations(arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job: every combination of the values in `KEY=A,B`, as Hydra's own sweeper has them."""
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from compendium.compose import parse
    from compendium.config import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # it knows the choices for glob(*)
        overrides, errors = parse(arguments, parser)
        if errors:
            raise UserErrors(errors)
        own = [override for override in overrides if not override.key_or_group.startswith("hydra")]
        try:
            return BasicSweeper.split_arguments(own, None)[0]
        except HydraException as error:
            raise UserError(str(error)) from None


def plan(jobs: Sequence[Sequence[str]], environment: Mapping[str, str] | None = None) -> list[Job]:
    """The runs of a sweep's jobs; nothing is written yet.

    Args:
        jobs: overrides of each.
        environment: variables that configs may read, as they will be where the jobs run.

    Raises:
        UserErrors: all mistakes of all jobs, each once, and jobs that would share a folder.
    """
    planned: dict[Path, Job] = {}
    errors: dict[str, UserError] = {}
    for overrides in map(tuple, jobs):
        try:
            run = composed(overrides, tuple((environment or {}).items()))
        except UserError as error:
            errors |= {str(part): part for part in (error.errors if isinstance(error, UserErrors) else [error])}
            continue
        if run.folder in planned:
            two = [" ".join(sorted(set(a) - set(b))) for a, b in permutations((planned[run.folder].overrides, overrides))]
            what = f"'{two[0]}' and '{two[1]}' make no difference to what a run computes: both jobs are {short(run.folder)}."
            errors[what] = UserError(what, "Sweep over something else, or give each a command of its own.")
        planned[run.folder] = Job(run, overrides)
    if errors:
        raise UserErrors(list(errors.values()))
    return list(planned.values())


@cache
def composed(overrides: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> Run:
    """One job's run; composed once, though both the check and the launcher ask."""
    from hydra.core.global_hydra import GlobalHydra

    from compendium.compose import compose

    hydra = GlobalHydra.instance()
    sweeping, hydra.hydra = hydra.hydra, None  # there can be one at a time
    try:
        with environ(dict(environment)):
            return Run.plan(compose(overrides))
    finally:
        hydra.hydra = sweeping


@contextmanager
def environ(variables: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the length of a block."""
    before = dict(os.environ)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

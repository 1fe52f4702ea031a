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
from typing import TYPE_CHECKING, Any

from compendium.errors import UserError, UserErrors, did_you_mean
from compendium.interruption import interruption
from compendium.run import Run, make_folder, read_json, short, write_json

if TYPE_CHECKING:
    from hydra.core.override_parser.types import Override

LAUNCH_VARIABLES = (
    "RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
)  # fmt: skip
"""What a process tells the other processes of its own run. A job of a sweep is a run of its own and must not see it."""

STEP_VARIABLES = ("SLURM_STEP_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NODEID", "SLURM_NTASKS")
"""The same for the srun step that a sweep on this machine was started from."""


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
        comparison: the arguments of compare.py, where the runs are those of a comparison.
    """

    path: Path
    command: str
    launcher: str
    time: float
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    comparison: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.path.stem

    @classmethod
    def of(cls, jobs: Sequence[Job], launcher: str) -> Ledger:
        """The ledger of a sweep; what an earlier start of the same sweep knew of its SLURM jobs is kept."""
        text = json.dumps([job.overrides for job in jobs])
        name = hashlib.sha256(text.encode()).hexdigest()[:8]
        return cls.named(name, jobs, launcher, shlex.join(["python", "train.py", *sys.argv[1:]]))

    @classmethod
    def named(
        cls, name: str, jobs: Sequence[Job], launcher: str, command: str, comparison: Sequence[str] = ()
    ) -> Ledger:
        """The ledger of some jobs under a name; what an earlier start knew of their SLURM jobs is kept."""
        root = Path(str(jobs[0].run.config["runs"])).expanduser().absolute()
        path = root / "sweeps" / f"{name}.json"
        known = cls.read(path).jobs if path.is_file() else {}
        folders = [str(job.run.folder) for job in jobs]
        entries = {
            folder: known.get(folder, {}) | {"overrides": list(job.overrides)}
            for folder, job in zip(folders, jobs, strict=True)
        }
        return cls(path, command, launcher, time.time(), entries, list(comparison))

    @classmethod
    def read(cls, path: Path) -> Ledger:
        return cls(path, **read_json(path))

    def write(self) -> None:
        make_folder(self.path.parent)
        write_json(self.path, {key: value for key, value in vars(self).items() if key != "path"})


def frozen(job: Job) -> Job:
    """The job with its folder frozen, and with the command that does it alone."""
    command = shlex.join(["python", "train.py", *job.overrides])
    run = Run(job.run.config | {"command": command}, job.run.folder)
    run.freeze()
    return Job(run, job.overrides)


def ledgers(runs: Path) -> list[Ledger]:
    """All sweeps below a folder of runs, the latest last."""
    return sorted((Ledger.read(path) for path in (runs / "sweeps").glob("*.json")), key=lambda ledger: ledger.time)


def wanted(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for a sweep, and not for Hydra's view of it."""
    flags = {argument for argument in arguments if argument.startswith("-")}
    return bool(flags) and flags <= {"-m", "--multirun"}


def launch(arguments: Sequence[str]) -> int:
    """Check every job of a sweep, then hand them to the launcher that `hydra/launcher=` names.

    The launchers are Hydra's plugins, but its multirun is not asked: it composes the config that all jobs share, in
    which keys of the swept choices are unknown.

    Args:
        arguments: the command line of train.py.

    Returns:
        Exit code: 0 done or submitted, 1 some job failed, 128 + N stopped by signal N.

    Raises:
        UserErrors: all mistakes of all jobs, each once.
    """
    from hydra.core.utils import JobStatus
    from hydra.utils import instantiate

    from compendium.compose import parse

    overrides, errors = parse([argument for argument in arguments if not argument.startswith("-")])
    own = [override for override in overrides if override.key_or_group.startswith("hydra")]
    config, wrong = launcher_config(own)
    errors += wrong
    jobs: list[list[str]] = []
    try:
        jobs = combinations([str(override.input_line) for override in overrides if override not in own])
        plan(jobs)
    except UserError as error:
        errors += parts(error)
    if errors:
        raise UserErrors(errors)
    launcher = instantiate(config)
    launcher.setup(hydra_context=None, task_function=None, config=config)
    ended = launcher.launch(jobs, initial_job_idx=0)
    if interruption.signum is not None:
        return 128 + interruption.signum
    return int(any(job.status is not JobStatus.COMPLETED for job in ended))


def launcher_config(own: Sequence[Override]) -> tuple[Any, list[UserError]]:
    """The config of the launcher that a command line names, and what is wrong with its keys.

    Args:
        own: the overrides of Hydra's own config.
    """
    from hydra import initialize_config_dir

    from compendium.compose import composed, mismatch, register
    from compendium.config import CONF, choices

    register()
    given = {override.key_or_group: override for override in own}
    name = given["hydra/launcher"].value() if "hydra/launcher" in given else "processes"
    if name not in choices("hydra/launcher"):
        mend = did_you_mean(str(name), choices("hydra/launcher"))
        return None, [UserError(f"hydra/launcher={name}: there is no such launcher.", mend)]
    if "hydra/sweeper" in given:
        return None, [UserError("hydra/sweeper: a sweep is every combination of the values given, here.")]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        known = composed([f"hydra/launcher={name}"]).hydra.launcher
    errors = []
    for key, override in given.items():
        option = key.removeprefix("hydra.launcher.")
        if option == key:
            continue
        if option not in known:
            mend = did_you_mean(option, map(str, known)) or f"see conf/hydra/launcher/{name}.yaml"
            errors.append(UserError(f"{key}: there is no such key.", mend))
        elif wrong := mismatch(known[option], override.value()):
            errors.append(UserError(f"{key}={override.value()}: {wrong}.", f"the default is {key}={known[option]}"))
        else:
            known[option] = override.value()
    return known, errors


def combinations(arguments: Sequence[str]) -> list[list[str]]:
    """The overrides of each job: every combination of the values in `KEY=A,B`, as Hydra's own sweeper has them.

    Raises:
        UserError: a range without steps, which has no combinations.
    """
    from hydra import initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    from compendium.config import CONF

    with initialize_config_dir(str(CONF), version_base="1.3"):
        parser = OverridesParser.create(GlobalHydra.instance().config_loader())  # it knows the choices for glob(*)
        try:
            return BasicSweeper.split_arguments(parser.parse_overrides(list(arguments)), None)[0]
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
            run = composed_run(overrides, tuple((environment or {}).items()))
        except UserError as error:
            errors |= {str(part): part for part in parts(error)}
            continue
        if run.folder in planned:
            both = permutations((set(planned[run.folder].overrides), set(overrides)))
            one, other = (" ".join(sorted(here - there)) for here, there in both)
            what = f"'{one}' and '{other}' make no difference to what a run computes: both are {short(run.folder)}."
            errors[what] = UserError(what, "Sweep over something else, or give each a command of its own.")
        planned[run.folder] = Job(run, overrides)
    if errors:
        raise UserErrors(list(errors.values()))
    return list(planned.values())


def parts(error: UserError) -> Sequence[UserError]:
    """The mistakes in one error."""
    return error.errors if isinstance(error, UserErrors) else [error]


@cache
def composed_run(overrides: tuple[str, ...], environment: tuple[tuple[str, str], ...]) -> Run:
    """One job's run; composed once, though both the check and the launcher ask."""
    from compendium.compose import compose

    with environ(dict(environment)):
        return Run.plan(compose(overrides))


@contextmanager
def environ(variables: Mapping[str, str], alone: bool = False) -> Iterator[None]:
    """Environment variables for the length of a block; `alone`: these and no others."""
    before = dict(os.environ)
    if alone:
        os.environ.clear()
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)

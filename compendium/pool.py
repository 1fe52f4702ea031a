"""Runs on this machine: each a process of its own, several at a time, each kept to its share of the cores or devices.

The processes are forked from one server that has imported Lightning once, so that a run begins in a tenth of a second
instead of four. The server runs nothing itself and starts no thread; a crash in a run is that run's alone, and a run
ends with the command that started it, however that one was ended.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing import get_context, parent_process
from multiprocessing.forkserver import ensure_running  # type: ignore[attr-defined]
from pathlib import Path

from compendium.config import ROOT
from compendium.errors import UserError, report
from compendium.interruption import interruption
from compendium.run import Run
from compendium.sweep import LAUNCH_VARIABLES, STEP_VARIABLES, environ

PRELOADED = ["lightning", "modules.method", "callbacks.evaluation.base", "callbacks.checkpoint", "compendium.engine"]
"""What the server imports before it forks: without Lightning among it, each run would import that anew."""
POLL_SECONDS = 0.05
GRACE_SECONDS = 60.0
"""How long a run that was asked to stop may take to save."""


@dataclass(frozen=True)
class Share:
    """What a run may use.

    Attributes:
        cores: numbers of its cores; empty where the system cannot pin.
        threads: of its arithmetic.
        devices: value of CUDA_VISIBLE_DEVICES; None leaves it alone.
    """

    cores: tuple[int, ...]
    threads: int
    devices: str | None = None


@dataclass(frozen=True)
class Task:
    """A run to do.

    Attributes:
        run: its folder is frozen.
        after: folders of runs that must be done before it.
    """

    run: Run
    after: tuple[Path, ...] = ()


@dataclass(eq=False)
class Child:
    """A run at work, with its output in `output.txt`."""

    task: Task
    share: int
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    told: bool = False
    reason: str = ""
    """Why it failed; empty while it runs, and where it ended well or was stopped."""

    def __post_init__(self) -> None:
        self.process: object = None

    @property
    def run(self) -> Run:
        return self.task.run

    @property
    def state(self) -> str:
        """`done`, `stopped` or `failed`, once it has ended."""
        if self.reason:
            return "failed"
        return "stopped" if self.told and self.run.result is None else "done"


class Pool:
    """Does tasks, several at a time; one that fails stops no other, but those that wait for it.

    Args:
        shares: what each of the runs at a time may use.
        watch: called a few times a second, and after each event, with the pool.

    Attributes:
        waiting: tasks that have not begun.
        working: runs at work.
        ended: runs that are over, in the order of their ends.
    """

    def __init__(self, shares: Sequence[Share], watch: Callable[[Pool], None] = lambda pool: None) -> None:
        self.shares = list(shares)
        self.watch = watch
        self.waiting: list[Task] = []
        self.working: list[Child] = []
        self.ended: list[Child] = []

    def work(self, tasks: Sequence[Task]) -> None:
        """Do the tasks; returns early where a signal asks for it, with every run saved and stopped."""
        interruption.install()
        self.waiting = list(tasks)
        try:
            while (self.waiting and interruption.signum is None) or self.working:
                if interruption.signum is None:
                    self.start_what_can()
                self.watch(self)
                time.sleep(POLL_SECONDS)
                if interruption.signum is not None:
                    self.stop(interruption.signum)
                self.collect()
        except KeyboardInterrupt:  # the second Ctrl-C
            self.kill()
        except BaseException:
            self.stop(signal.SIGTERM)
            self.kill(GRACE_SECONDS)
            raise
        self.watch(self)

    def start_what_can(self) -> None:
        """Fill the free shares with tasks whose stages are done; give up those whose stages failed."""
        failed = {child.run.folder for child in self.ended if child.state == "failed"}
        pending = {task.run.folder for task in self.waiting} | {child.run.folder for child in self.working}
        for task in list(self.waiting):
            if broken := failed.intersection(task.after):
                self.waiting.remove(task)
                task.run.mark("failed", reason=f"it starts from {next(iter(broken)).name}, which failed")
                child = Child(task, -1, reason="a run that it starts from failed")
                self.ended.append(child)
                failed.add(task.run.folder)
                continue
            free = [number for number in range(len(self.shares)) if all(one.share != number for one in self.working)]
            if not free:
                return
            if not pending.intersection(task.after):
                self.waiting.remove(task)
                self.working.append(self.begin(task, free[0]))

    def begin(self, task: Task, share: int) -> Child:
        """Start a run."""
        child = Child(task, share)
        environment = environment_of_a_run(self.shares[share])
        context = get_context("forkserver")
        context.set_forkserver_preload(PRELOADED)
        with environ(environment | {"PYTHONPATH": path_of_a_run()}, alone=True):
            ensure_running()
        child.process = context.Process(target=work, args=(str(task.run.folder), environment, self.shares[share]))
        child.process.start()
        return child

    def collect(self) -> None:
        """Take note of the runs that are over."""
        for child in list(self.working):
            code = child.process.exitcode  # type: ignore[attr-defined]
            if code is None:
                continue
            self.working.remove(child)
            child.seconds = time.monotonic() - child.began
            if code and not child.told:
                child.reason = why(child.run, code, child.process.pid)  # type: ignore[attr-defined]
            self.ended.append(child)

    def stop(self, signum: int) -> None:
        """Ask every run to save and stop, once."""
        for child in self.working:
            if not child.told:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(child.process.pid, signum)  # type: ignore[attr-defined]
            child.told = True

    def kill(self, seconds: float = 0.0) -> None:
        """End every run and what it started, after at most so many seconds."""
        for child in self.working:
            process: object = child.process
            process.join(seconds)  # type: ignore[attr-defined]
            child.told = True
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # type: ignore[attr-defined]
            process.join()  # type: ignore[attr-defined]
        self.collect()


def work(folder: str, environment: Mapping[str, str], share: Share) -> None:
    """What a forked process does: one frozen run, in a session of its own so that Ctrl-C reaches it once."""
    os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    if share.cores and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share.cores)
    output = os.open(Path(folder) / "output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
        os.dup2(output, stream.fileno())
        stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    interruption.signum = None
    import torch

    from compendium.engine import execute

    torch.set_num_threads(share.threads)
    threading.Thread(target=end_with_command, daemon=True, name="command-watch").start()
    try:
        code = execute(Run.open(folder))
    except UserError as error:
        code = report(error)
    sys.exit(code)


def end_with_command() -> None:
    """End with the command that started this process, however it ended."""
    command = parent_process()
    assert command is not None
    command.join()
    os._exit(1)


def why(run: Run, code: int, pid: int) -> str:
    """Why a run failed, as far as it could say."""
    status = run.status
    if status["state"] == "failed":
        return str(status["reason"]).splitlines()[0]
    how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    if status["state"] == "pending" or status.get("pid") == pid:  # it had no chance to write it down
        run.mark("failed", reason=how)
    return how


def environment_of_a_run(share: Share) -> dict[str, str]:
    """This process's variables without what belongs to its own run, and with the share."""
    kept = {name: value for name, value in os.environ.items() if name not in (*LAUNCH_VARIABLES, *STEP_VARIABLES)}
    devices = {} if share.devices is None else {"CUDA_VISIBLE_DEVICES": share.devices}
    return kept | devices | {"OMP_NUM_THREADS": str(share.threads)}


def path_of_a_run() -> str:
    """PYTHONPATH by which the server finds this project, wherever the command was started."""
    return os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))


def cores() -> list[int]:
    """Numbers of the cores that this process may use."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))


def devices() -> list[str]:
    """CUDA devices that this process may use, as CUDA_VISIBLE_DEVICES names them; torch is not asked."""
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        return list(filter(None, os.environ["CUDA_VISIBLE_DEVICES"].split(",")))
    found = Path("/dev").glob("nvidia[0-9]*")
    return sorted((path.name.removeprefix("nvidia") for path in found), key=int)


def shares(parallel: int | None, threads: int | None, per_run: int = 0) -> list[Share]:
    """What each run may use.

    Args:
        parallel: runs at a time; None: as many as the cores, or the devices, allow.
        threads: of each run; None: the cores divided by the runs.
        per_run: devices of each run; 0 where runs use none.

    Raises:
        UserError: fewer than one of either, or more devices than there are.
    """
    for name, number in (("parallel", parallel), ("threads", threads)):
        if number is not None and number < 1:
            raise UserError(f"{name}={number}: at least 1.")
    own, gpus = cores(), devices() if per_run else []
    if per_run > len(gpus):
        raise UserError(f"a run takes {per_run} devices, and there are {len(gpus)}.", "trainer.devices=1")
    count = parallel or (len(gpus) // per_run if per_run else max(1, len(own) // (threads or 1)))
    each = max(1, len(own) // count)
    found = []
    for number in range(count):
        slots = len(gpus) // per_run if per_run else 1
        first = number % slots * per_run
        named = ",".join(gpus[first : first + per_run]) if per_run else None
        # Runs that outnumber the cores share them all; pinning would only put two on one.
        mine = tuple(own[number * each : (number + 1) * each]) if count <= len(own) else ()
        found.append(Share(mine, threads or each, named))
    return found

"""A sweep on this machine: each job is a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from compendium.config import ROOT
from compendium.errors import UserError
from compendium.interruption import interruption
from compendium.run import short
from compendium.sweep import LAUNCH_VARIABLES, STEP_VARIABLES, Job, Ledger
from hydra_plugins.compendium_launchers._base import FolderLauncher

POLL_SECONDS = 0.1


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
        interruption.install()
        waiting = list(jobs)
        children: list[Child] = []
        ended: list[Child] = []
        try:
            while (waiting and interruption.signum is None) or children:
                while waiting and len(children) < self.parallel and interruption.signum is None:
                    children.append(Child(waiting.pop(0), self.environment_of_a_job()))
                time.sleep(POLL_SECONDS)
                if interruption.signum is not None:
                    for child in children:
                        child.stop(interruption.signum)
                ended += (now := [child for child in children if child.ended()])
                children = [child for child in children if child not in now]
        except KeyboardInterrupt:  # the second Ctrl-C
            for child in children:
                child.kill()
        return {child.run.folder for child in ended if child.failed}

    def environment_of_a_job(self) -> dict[str, str]:
        """This process's without what belongs to its own run, and with a share of the cores, where none is set."""
        kept = {name: value for name, value in os.environ.items() if name not in (*LAUNCH_VARIABLES, *STEP_VARIABLES)}
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return {"OMP_NUM_THREADS": str(max(1, cores // self.parallel))} | kept


class Child:
    """A job at work, with its output in `output.txt`. It leads a session of its own, so that Ctrl-C reaches it once."""

    def __init__(self, job: Job, environment: dict[str, str]) -> None:
        self.run = job.run
        self.began = time.monotonic()
        self.told = False
        self.failed = False
        command = [sys.executable, str(ROOT / "train.py"), "--frozen", str(self.run.folder)]
        with open(self.run.folder / "output.txt", "a") as output:
            self.process = subprocess.Popen(
                command, stdout=output, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
        print(f"started: {self.run.title}, {short(self.run.folder)}", flush=True)

    def stop(self, signum: int) -> None:
        """Ask it to save and stop, once."""
        if not self.told:
            self.process.send_signal(signum)
        self.told = True

    def kill(self) -> None:
        """End it and the processes that it started, at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def ended(self) -> bool:
        """Whether it is over; says once how it went."""
        code = self.process.poll()
        if code is None:
            return False
        seconds = time.monotonic() - self.began
        if code == 0:
            print(f"done in {seconds:.0f} s: {self.run.title}", flush=True)
        elif self.told:
            print(f"stopped: {self.run.title}; the same command continues", flush=True)
        else:
            self.failed = True
            print(f"failed after {seconds:.0f} s: {self.run.title}: {self.reason(code)}", flush=True)
            print(f"  {short(self.run.folder / 'output.txt')}", flush=True)
        return True

    def reason(self, code: int) -> str:
        """Why it failed, as far as it could say."""
        status = self.run.status
        if status["state"] == "failed":
            return str(status["reason"]).splitlines()[0]
        how = f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if status["state"] == "pending" or status.get("pid") == self.process.pid:  # it had no chance to write it down
            self.run.mark("failed", reason=how)
        return how

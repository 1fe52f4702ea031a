"""One owner of the signals that ask a run to stop.

A signal only sets a flag. The run stops at the next step, where its state is whole: it saves, gives its job back to
SLURM where there is one, and leaves. A second Ctrl-C stops at once.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(BaseException):
    """The run stopped because it was asked to, with its state saved.

    Attributes:
        signum: the signal that asked.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class Interruption:
    """The flag, and the handlers that set it."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def install(self) -> None:
        """Own the signals; called again once Lightning has put handlers of its own in place: one owner is left."""
        if threading.current_thread() is not threading.main_thread():
            return
        for number in SIGNALS:
            signal.signal(number, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.signum is not None and signum == signal.SIGINT:
            raise KeyboardInterrupt
        if self.signum is None and signum == signal.SIGINT:
            print("\nstopping after this step; once more stops at once", file=sys.stderr)
        self.signum = signum


interruption = Interruption()
"""Signals belong to the process, and so does their owner."""


def slurm_job() -> str | None:
    """The id under which SLURM can requeue this job, array tasks included; None outside of SLURM."""
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    if array:
        return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return os.environ.get("SLURM_JOB_ID")


def started_by_srun() -> bool:
    """Whether SLURM started all processes of this run; in a job of one process, Lightning starts the others."""
    return "SLURM_PROCID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) > 1


def srun_step() -> str:
    """How many processes `srun` started, in words."""
    tasks, nodes = (int(os.environ.get(f"SLURM_{name}", "1")) for name in ("NTASKS", "NNODES"))
    return f"{tasks} process{'es' * (tasks > 1)} on {nodes} node{'s' * (nodes > 1)}"


def tasks_per_node() -> str:
    """How many processes of this run `srun` started on each node."""
    nodes = int(os.environ.get("SLURM_NNODES", "1"))
    return os.environ.get("SLURM_NTASKS_PER_NODE") or str(int(os.environ.get("SLURM_NTASKS", "1")) // nodes)


def requeued() -> bool:
    """Whether SLURM has started this job before."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") != "0"


def requeue() -> str:
    """Give this job back to SLURM, unless SLURM is ending it on its own account: requeueing would undo a cancel.

    Returns:
        What became of it, in a line.
    """
    job = slurm_job()
    if job is None:
        return "the same command continues"
    # By its task: the number alone, SLURM_JOB_ID, shows all tasks of the array where this is the one that has it.
    shown = scontrol("show", "job", "-o", job).stdout.split()
    ending = any(f"JobState={state}" in shown for state in ("COMPLETING", "CANCELLED"))
    if ending and "Reason=TimeLimit" not in shown:  # SLURM requeues a preempted job by itself
        return f"SLURM job {job} was cancelled or preempted; the same command continues"
    done = scontrol("requeue", job)
    if done.returncode == 0:
        return f"SLURM job {job} is requeued"
    return f"SLURM job {job} was not requeued ({done.stderr.strip()}); the same command continues"


def scontrol(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["scontrol", *arguments], capture_output=True, text=True, check=False)

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
        """Own the signals. Called again once Lightning has put handlers of its own in place, so that one owner is left."""
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


def requeue() -> str:
    """Give this job back to SLURM.

    Returns:
        What became of it, in a line.
    """
    job = slurm_job()
    if job is None:
        return "the same command continues"
    done = subprocess.run(["scontrol", "requeue", job], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return f"SLURM job {job} is requeued"
    return f"SLURM job {job} was not requeued ({done.stderr.strip()}); the same command continues"

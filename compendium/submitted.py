"""What a submitted SLURM job does: one frozen run, under the one owner of its signals."""

from __future__ import annotations

import os
import signal
import sys

from compendium.interruption import interruption
from compendium.run import Run
from compendium.sweep import LAUNCH_VARIABLES


def work(folder: str) -> None:
    """Do the run of a folder, or continue it.

    Args:
        folder: where it is frozen.

    Raises:
        SystemExit: it did not end well; SLURM is told with the exit code.
    """
    interruption.install()  # submitit has put handlers of its own in place
    signal.signal(signal.SIGCONT, signal.SIG_DFL)
    for name in LAUNCH_VARIABLES:  # sbatch carries the submitter's environment along
        os.environ.pop(name, None)
    from compendium.engine import execute

    code = execute(Run.open(folder))
    if code:
        sys.exit(code)

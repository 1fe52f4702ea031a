"""Run the command line as a person would, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import train
from compendium.errors import UserError, report

ROOT = Path(train.__file__).resolve().parent


@dataclass
class Outcome:
    """What a command left: its exit code and what it printed."""

    code: int
    out: str
    err: str


def here(capfd, *arguments: object, program: ModuleType = train) -> Outcome:
    """`python train.py ARGUMENTS` (or another program's), without the start of an interpreter."""
    capfd.readouterr()
    given, sys.argv = sys.argv, [f"{program.__name__}.py", *map(str, arguments)]
    try:
        code = program.main(sys.argv[1:])
    except UserError as error:
        code = report(error)
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.argv = given
    return Outcome(code, *capfd.readouterr())


def apart(*arguments: object, timeout: float = 300, before=None, program: str = "train", **environment: str) -> Outcome:
    """`python train.py ARGUMENTS` (or another program's) in a process of its own; `before` runs in it first."""
    done = subprocess.run(
        [sys.executable, str(ROOT / f"{program}.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=timeout,
        env=os.environ | environment,
        preexec_fn=before,
        check=False,
    )
    return Outcome(done.returncode, done.stdout, done.stderr)

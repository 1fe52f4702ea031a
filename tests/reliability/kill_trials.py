"""Kill runs with SIGKILL at random moments, start the same command again, and compare every bit with an unbroken run.

    python -m tests.reliability.kill_trials model=supervised/classifier --trials 50

Lightning is imported once; each attempt is a fork of this process, so that a trial costs what it trains. A share of the
kills is aimed at the write of a checkpoint: they strike when its temporary file is seen.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

os.environ["COMPENDIUM_ALLOW"] = "tests"

import torch
import torchmetrics  # noqa: F401 (imported before the forks, not in each)

import compendium.engine as engine
from compendium.compose import compose
from compendium.run import Run
from tests.reliability.recorder import order

ALWAYS = ["callbacks.checkpoint.every_steps=3", "++callbacks.recorder._target_=tests.reliability.recorder.Recorder"]


def attempt(run: Run) -> int:
    """Start the run in a fork of this process.

    Returns:
        Its process id.
    """
    child = os.fork()
    if child:
        return child
    os.setsid()
    sys.stdout = sys.stderr = open(run.folder.parent / f"{run.folder.name}.txt", "a")  # noqa: SIM115
    try:
        code = engine.execute(run)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    os._exit(code)


def finish(run: Run) -> None:
    """Let the run come to its end, or say why it did not."""
    _, status = os.waitpid(attempt(run), 0)
    if status:
        raise SystemExit(
            f"the run ended with {status}:\n{(run.folder.parent / f'{run.folder.name}.txt').read_text()[-3000:]}"
        )


def kill(run: Run, delay: float, at_write: bool) -> bool:
    """Start the run and kill it after `delay` seconds, or later at the next write of a checkpoint.

    Returns:
        Whether it was still alive.
    """
    child = attempt(run)
    end = time.monotonic() + delay
    while time.monotonic() < end:
        time.sleep(0.002)
    while at_write and not list(run.checkpoints.glob(".*.tmp")) and not os.waitpid(child, os.WNOHANG)[0]:
        if time.monotonic() > end + 5:
            break
    try:
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
    except (ProcessLookupError, ChildProcessError):
        return False
    return os.WIFSIGNALED(status)


def compare(run: Run, other: Run) -> list[str]:
    """What differs between two finished runs: checkpoints, metric log, figures, the records of each step."""
    differences = []
    for name in sorted({path.name for r in (run, other) for path in r.checkpoints.glob("*.ckpt")}):
        paths = [r.checkpoints / name for r in (run, other)]
        if not all(path.is_file() for path in paths):
            differences.append(f"{name} is missing")
            continue
        states = [torch.load(path, weights_only=True) for path in paths]
        differences += [f"{name}: {where}" for where in unequal(*states)]
    if (run.folder / "metrics.jsonl").read_bytes() != (other.folder / "metrics.jsonl").read_bytes():
        differences.append("metrics.jsonl")
    if run.result["figures"] != other.result["figures"]:
        differences.append("figures")
    if order(run.folder) != order(other.folder):
        differences.append("order of the records")
    return differences


def unequal(one: Any, other: Any, path: str = "") -> list[str]:
    """Paths of the leaves of a checkpoint that are not the same to the bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        alike = one.dtype == other.dtype and one.shape == other.shape
        return [] if alike and one.numpy().tobytes() == other.numpy().tobytes() else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        keys = list(one | other)
        return [
            found
            for key in keys
            for found in (
                unequal(one[key], other[key], f"{path}.{key}" if path else str(key))
                if key in one and key in other
                else [f"{path}.{key}"]
            )
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        return [
            found
            for index, pair in enumerate(zip(one, other, strict=True))
            for found in unequal(*pair, f"{path}[{index}]")
        ]
    return [] if type(one) is type(other) and one == other else [path]


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("overrides", nargs="+")
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--kills", type=int, default=3, help="kills per trial before the run may end")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(arguments)
    draw = random.Random(options.seed)
    home = Path(tempfile.mkdtemp())
    torch.set_num_threads(1)
    # The first run is not measured: it fills caches that later ones only read.
    for name in ("warm", "unbroken"):
        unbroken = planned(options.overrides, home / name)
        started = time.monotonic()
        finish(unbroken)
    seconds = time.monotonic() - started
    strikes = mid_write = 0
    for trial in range(options.trials):
        run = planned(options.overrides, home / f"trial-{trial}")
        for _ in range(options.kills):
            at_write = draw.random() < 0.4
            struck = kill(run, draw.uniform(0.05, 0.9) * seconds, at_write)
            strikes += struck
            mid_write += bool(struck and list(run.checkpoints.glob(".*.tmp")))
        finish(run)
        if differences := compare(run, unbroken):
            print(f"trial {trial}: {', '.join(differences)} differ; see {home}")
            return 1
        shutil.rmtree(home / f"trial-{trial}")
    shutil.rmtree(home)
    print(f"{options.trials} trials, {strikes} kills ({mid_write} during the write of a checkpoint), all bits equal")
    return 0


def planned(overrides: list[str], runs: Path) -> Run:
    """The run of these overrides below `runs`."""
    run = Run.plan(compose([*overrides, *ALWAYS, f"runs={runs}", "logger=none"]))
    run.folder.parent.mkdir(parents=True, exist_ok=True)
    return run


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

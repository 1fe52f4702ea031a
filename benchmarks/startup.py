"""How soon the command line answers, as shares of a whole one-step run.

    python -m benchmarks.startup [--runs 5]

Each command is a process of its own, in turn with the others; what counts are medians and their ratios.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time

from compendium.config import ROOT

ONE_STEP = ["model=supervised/classifier", "trainer=cpu", "trainer.max_steps=1", "trainer.limit_val_batches=0"]


def seconds(*arguments: str) -> float:
    """Wall time of `python train.py ARGUMENTS`."""
    started = time.perf_counter()
    subprocess.run([sys.executable, str(ROOT / "train.py"), *arguments], capture_output=True, check=False)
    return time.perf_counter() - started


def main(runs: int = 5) -> None:
    """Print the table."""
    home = tempfile.mkdtemp()
    commands = {
        "one-step run": lambda turn: seconds(*ONE_STEP, f"runs={home}/{turn}"),
        "--help": lambda turn: seconds("--help"),
        "a typo": lambda turn: seconds("modle=supervised/classifier"),
        "dry=true": lambda turn: seconds(*ONE_STEP, "dry=true"),
    }
    for command in commands.values():
        command("warm")
    times = {name: [command(turn) for turn in range(runs)] for name, command in commands.items()}
    whole = statistics.median(times["one-step run"])
    print(f"{'':<14} {'seconds':>8} {'share of a one-step run':>24}")
    for name, measured in times.items():
        print(f"{name:<14} {statistics.median(measured):8.2f} {statistics.median(measured) / whole:24.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    main(parser.parse_args().runs)

"""What the benchmarks of this folder share: texts, one model for both sides, and measurements in a process each."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from compendium.config import ROOT

INSTALL = "trl is not installed: pip install 'trl>=1.16,<2'"


def texts(path: Path, pairs: int, vocabulary: int, prompt: tuple[int, int], answer: tuple[int, int]) -> None:
    """Preferences between answers of random words, as trl and `data=dialogues` read them: JSON Lines.

    Args:
        path: of the file.
        pairs: lines.
        vocabulary: different words.
        prompt: fewest and most words of a prompt.
        answer: fewest and most words of an answer.
    """
    draw = random.Random(0)

    def words(fewest: int, most: int) -> str:
        return " ".join(f"w{draw.randrange(vocabulary)}" for _ in range(draw.randint(fewest, most)))

    with path.open("w") as file:
        for _ in range(pairs):
            # trl reads prompt and answer as one text: the space keeps their words apart.
            line = {"prompt": words(*prompt) + " ", "chosen": words(*answer) + " ", "rejected": words(*answer) + " "}
            file.write(json.dumps(line) + "\n")


class Peak:
    """Most memory during a block beyond what there was before it, in bytes: of the GPU, or resident on the CPU."""

    def __enter__(self) -> Peak:
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # the mark of the highest use falls back to the present one
            self.before = self.resident("VmRSS")
        return self

    def __exit__(self, *_: object) -> None:
        top = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else self.resident("VmHWM")
        self.bytes = top - self.before

    @staticmethod
    def resident(name: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name))


def measured(work: Callable[[], object]) -> dict[str, float]:
    """Seconds and peak memory of a call. On the CPU, where both sides have one thread, seconds are the processor's: a
    busy machine counts for neither.
    """
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    with Peak() as peak:
        started = clock()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds = clock() - started
    return {"seconds": seconds, "bytes": float(peak.bytes)}


def in_turn(module: str, sides: Sequence[str], arguments: Sequence[str], pairs: int) -> dict[str, list[dict[str, Any]]]:
    """What each side prints, a process for each measurement, the sides in turn."""
    environment = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1"), "HF_HUB_OFFLINE": "1"}
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in sides}
    for _ in range(pairs):
        for side in sides:
            command = [sys.executable, "-m", module, "--side", side, *arguments]
            done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{side}: {done.stderr[-2000:]}")
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    return found


def compared(module: str, title: str, sides: Sequence[str], cases: Sequence[str], pairs: int) -> None:
    """Print a table for each case; a line if trl is not there."""
    if importlib.util.find_spec("trl") is None:
        print(INSTALL)
        return
    for case in cases:
        table(f"{title}, {case}", in_turn(module, sides, ("--case", case), pairs), "tokens/s")


def asked(about: str | None, sides: Sequence[str], cases: Sequence[str]) -> argparse.Namespace:
    """`--pairs`, and `--side` and `--case` of the processes that `in_turn` starts."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--side", choices=sides)
    parser.add_argument("--case", choices=cases)
    return parser.parse_args()


def table(title: str, found: dict[str, list[dict[str, Any]]], tokens: str) -> None:
    """Print tokens per second, peak memory, and how many times the peer's speed ours is (median of the pairs)."""
    print(f"{title:<34} {tokens:>14} {'peak memory':>13} {'ours is x times as fast':>25}")
    ours, *peers = found
    for side, runs in found.items():
        speed = statistics.median(run["tokens"] / run["seconds"] for run in runs)
        memory = statistics.median(run["bytes"] for run in runs) / 2**20
        ratio = statistics.median(
            (mine["tokens"] / mine["seconds"]) / (run["tokens"] / run["seconds"])
            for mine, run in zip(found[ours], runs, strict=True)
        )
        print(f"{side:<34} {speed:14,.0f} {memory:9,.0f} MiB {ratio if side in peers else 1.0:25.2f}")

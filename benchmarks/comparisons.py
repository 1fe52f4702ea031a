"""What a comparison of short runs costs, beside the same runs as commands of their own, as many at a time.

    python -m benchmarks.comparisons [--seeds 4]

The comparison plans, tries, runs, judges and draws; the commands only run. Both on all cores, one thread a run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor

from compendium.config import ROOT
from compendium.pool import cores

RUN = ("model=supervised/classifier", "data=wine", "net=mlp", "callbacks=bare", "trainer=cpu", "trainer.max_epochs=5")
ARMS = {"narrow": "net.width=8", "wide": "net.width=64"}


def call(*arguments: str) -> None:
    """A command in a process of its own, with one thread."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    subprocess.run([sys.executable, *arguments], cwd=ROOT, env=environment, capture_output=True, check=True)


def main(seeds: int = 4) -> None:
    """Print both times and their ratio."""
    home = tempfile.mkdtemp()
    arms = [f"arms.{name}={text}" for name, text in ARMS.items()]
    started = time.perf_counter()
    call("compare.py", *RUN, *arms, f"seeds={seeds}", f"runs={home}/compared")
    compared = time.perf_counter() - started

    commands = [("train.py", *RUN, text, f"seed={seed}") for text in ARMS.values() for seed in range(seeds)]
    started = time.perf_counter()
    with ThreadPoolExecutor(len(cores())) as pool:
        list(pool.map(lambda command: call(*command, f"runs={home}/alone"), commands))
    alone = time.perf_counter() - started
    print(f"{len(commands)} runs of a second     compare.py {compared:.1f} s, {len(commands)} commands {alone:.1f} s")
    print(f"ratio {compared / alone:.2f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=4)
    main(parser.parse_args().seeds)

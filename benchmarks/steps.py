"""Wall time of a training step: Compendium's default training against a bare PyTorch loop.

Same data, network, loss and optimizer; both run in this process, in turn, and the ratio of each pair is what counts.
Compendium's side is a whole `fit` as `train.py` runs it (checkpoint and log callbacks included, evaluations not). Both
are timed from the third epoch on, when the memory that they need is theirs.

    python -m benchmarks.steps [--pairs 15]
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time

import torch
from lightning import Callback

from compendium.compose import compose
from compendium.engine import build, quiet
from compendium.lean import silence
from compendium.run import Run
from datamodules.batches import Labelled

CASES = {
    "short steps": ["net=mlp", "net.width=48", "net.depth=3", "datamodule.batch_size=128", "trainer.max_epochs=100"],
    "long steps": ["net=mlp", "net.width=560", "net.depth=5", "datamodule.batch_size=64", "trainer.max_epochs=14"],
}


WARM_UP = 2
"""Epochs that are not timed."""


class Clock(Callback):
    """Seconds and steps from the end of the warm-up to the end of the last step."""

    def on_train_epoch_end(self, trainer, pl_module):
        if trainer.current_epoch + 1 == WARM_UP:
            self.first, self.before = time.perf_counter(), trainer.global_step

    def on_train_end(self, trainer, pl_module):
        self.steps = trainer.global_step - self.before
        self.seconds = time.perf_counter() - self.first


def prepared(case: list[str]):
    """A fresh method, its data and its trainer."""
    base = ["model=supervised/classifier", "trainer=cpu", "callbacks=bare", "logger=none", "schedule=constant"]
    runs = f"runs={tempfile.mkdtemp()}"
    run = Run.plan(compose([*base, *case, "trainer.limit_val_batches=0", "trainer.enable_progress_bar=false", runs]))
    run.freeze()
    return build(run)


def ours(case: list[str]) -> float:
    """Seconds per step of a fit."""
    parts, clock = prepared(case), Clock()
    silence([clock])
    parts.trainer.callbacks.insert(0, clock)
    parts.trainer.fit(parts.method, parts.data)
    return clock.seconds / clock.steps


def bare(case: list[str]) -> float:
    """Seconds per step of the shortest loop that learns the same."""
    parts = prepared(case)
    method, data, epochs = parts.method.train(), parts.data, parts.trainer.max_epochs
    batches = data.present(dict(data.columns), "train")
    optimizer = torch.optim.AdamW(method.parameters(), lr=1e-3, weight_decay=0.01, fused=True)
    steps = 0
    for epoch in range(epochs):
        if epoch == WARM_UP:
            started = time.perf_counter()
        plan = data.plan(epoch)
        for rows in plan:
            optimizer.zero_grad()
            method.loss(Labelled(batches.x[rows], batches.y[rows])).backward()
            optimizer.step()
        steps += len(plan) if epoch >= WARM_UP else 0
    return (time.perf_counter() - started) / steps


def main(pairs: int = 15) -> None:
    """Print the table."""
    quiet()
    torch.set_num_threads(1)
    print(f"{'':<12} {'Compendium':>12} {'bare loop':>12} {'ratio (median of pairs)':>24}")
    for name, case in CASES.items():
        ours(case), bare(case)  # not counted
        times = [(ours(case), bare(case)) for _ in range(pairs)]
        mine, theirs = (statistics.median(column) for column in zip(*times, strict=True))
        ratio = statistics.median(a / b for a, b in times)
        print(f"{name:<12} {mine * 1e3:9.3f} ms {theirs * 1e3:9.3f} ms {ratio:24.3f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=15)
    main(parser.parse_args().pairs)

"""Wall time of a run that trains an ensemble as one batched network, beside a run per member, one after another.

Same networks, records, epochs and optimizer, all in one process, so that no start of Python or import counts.

    python -m benchmarks.uncertainty.ensemble [--pairs 5]
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.generative.peers import table
from compendium.compose import compose
from compendium.engine import build
from compendium.run import Run

MEMBERS = 8
EPOCHS = 10
SHARED = ("trainer=cpu", f"trainer.max_epochs={EPOCHS}", "callbacks=bare", "logger=none", "trainer.limit_val_batches=0")
CASES = {
    "MLP 32 x 2, batch 32": ("net=mlp", "net.width=32", "net.depth=2", "datamodule.batch_size=32"),
    "MLP 64 x 2, batch 64": ("net=mlp", "net.width=64", "net.depth=2", "datamodule.batch_size=64"),
    "MLP 256 x 3, batch 128": ("net=mlp", "net.width=256", "net.depth=3", "datamodule.batch_size=128"),
}


def train(*choices: str) -> None:
    """One run on digits, from its config to its last step."""
    with tempfile.TemporaryDirectory() as home, contextlib.redirect_stderr(io.StringIO()):
        run = Run.plan(compose([*SHARED, *choices, f"runs={Path(home)}"]))
        run.freeze()
        parts = build(run)
        parts.logger.rewind(0)
        parts.trainer.fit(parts.method, parts.data)


def alone(net: tuple[str, ...]) -> None:
    """A run per member."""
    for seed in range(MEMBERS):
        train("model=supervised/classifier", f"seed={seed}", *net)


def main(pairs: int = 5) -> None:
    """Print the table: times are per run of the ensemble, or per `MEMBERS` runs."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    rows: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {}
    for name, net in CASES.items():
        batched = partial(train, "model=uncertainty/ensemble", f"model.members={MEMBERS}", *net)
        rows[name] = (batched, partial(alone, net))
    print(f"an ensemble of {MEMBERS}, {EPOCHS} epochs of digits: one batched run beside {MEMBERS} runs in turn")
    table(rows, pairs, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=5)
    main(parser.parse_args().pairs)

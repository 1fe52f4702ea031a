"""Optimizers on a few problems, each tuned by as many random trials from a stated space, beside AdamW.

    python -m benchmarks.optimization.problems [--optimizers soap lion_k] [--problems quadratic cnn] [--trials 8]

For each problem: the best rates, the final training loss, and what share of AdamW's steps and seconds an optimizer
takes to come to AdamW's final loss. A step is one gradient call, but for optimizers that search along the way, which
log theirs. Everything goes through `compare.py`, whose folders stay where --runs says.
"""

from __future__ import annotations

import argparse
import json
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from compendium.config import ROOT, choices

EVALUATION = "callbacks.evaluation.training_loss"
COMMON = (
    "trainer=cpu",
    "schedule=cosine",
    "callbacks=bare",
    "callbacks.log.every=5",
    "trainer.limit_val_batches=0",
    f"+{EVALUATION}._target_={EVALUATION}.TrainingLoss",
    f"+{EVALUATION}.n=1000",
)
PROBLEMS = {
    "quadratic": "model=optimization/bounded_regression model.bound=1e6 data=linear data.condition=1000 "
    "datamodule.scale=none datamodule.batch_size=400 datamodule.drop_last=false trainer.max_epochs=200",
    "logistic": "model=supervised/classifier model.label_smoothing=0.1 data=breast_cancer net=linear "
    "datamodule.batch_size=32 trainer.max_epochs=10",
    "cnn": "model=supervised/classifier data=digits net=cnn net.channels=[8,16] datamodule.batch_size=32 "
    "trainer.max_epochs=4",
    "characters": "model=language/language_model net.width=32 net.depth=2 net.heads=2 trainer.max_epochs=1 "
    "trainer.limit_train_batches=100",
    "autoencoder": "model=representation/autoencoder datamodule.batch_size=32 trainer.max_epochs=10",
    "factorisation": "model=optimization/matrix_factorisation datamodule.batch_size=32 trainer.max_epochs=10",
}
"""Name -> what is trained: known optima (quadratic, factorisation), convex (the first two), and three networks."""
RATES = {"sgd": "log 0.001 3", "lars": "log 0.001 3", "adagrad": "log 0.001 1", "adagrad_norm": "log 0.01 10"}
"""Optimizer -> law of its rate, where it is not Adam's."""
ADAM = "log 0.0001 0.3"
BASELINE = "adamw"


def compare(home: Path, *arguments: str) -> None:
    """`compare.py`, with its folders under `home`; a verdict is no error."""
    done = subprocess.run(
        [sys.executable, "compare.py", *COMMON, *arguments, f"runs={home}"], cwd=ROOT, capture_output=True, text=True
    )
    if done.returncode not in (0, 1, 3):
        sys.exit(done.stderr or done.stdout)


def latest(home: Path, pattern: str) -> list[Any]:
    """The JSON files of a comparison."""
    return [json.loads(path.read_text()) for path in home.glob(f"comparisons/{pattern}")]


def measured(problem: str, optimizers: Sequence[str], trials: int, seeds: int, home: Path) -> list[str]:
    """Tune, compare, and say what came out, a line per optimizer.

    Args:
        problem: of `PROBLEMS`.
        optimizers: names of conf/optimizer, the baseline among them.
        trials: of each.
        seeds: of the comparison.
        home: an empty folder.
    """
    shared = shlex.split(PROBLEMS[problem])
    arms = {name: f"optimizer={name}" for name in optimizers}
    laws = [f"search.arms.{name}.optimizer.lr={RATES.get(name, ADAM)}" for name in optimizers]
    words = [f"arms.{name}={text}" for name, text in arms.items()]
    compare(home, *shared, *words, *laws, f"search.trials={trials}", "search.metric=test/training_loss")
    best = {found["arm"]: found["best"]["optimizer.lr"] for found in latest(home, "*/search.json")}
    if vain := [name for name in optimizers if name not in best]:
        sys.exit(f"{problem}: no trial of {' or '.join(vain)} gave a loss")

    words = [f"arms.{name}=optimizer={name} optimizer.lr={best[name]}" for name in optimizers]
    others = [name for name in optimizers if name != BASELINE]
    checks = [
        {"reach": "train/loss", "level": BASELINE, "arm": name, "than": BASELINE, "in": unit, "factor": 1.0}
        for name in others
        for unit in ("step", "second")
    ]
    compare(home, *shared, *words, f"baseline={BASELINE}", f"seeds={seeds}", f"checks={json.dumps(checks)}")
    (result,) = latest(home, "*/result.json")
    losses = {row["arm"]: row["mean"] for row in result["table"] if row["figure"] == "test/training_loss"}
    lines = [f"{problem:14}{BASELINE:28} loss {losses[BASELINE]:.5g}  lr={best[BASELINE]}"]
    whys = [check["why"] for check in result["checks"]]
    for place, name in enumerate(others):
        lines.append(f"{problem:14}{name:28} loss {losses[name]:.5g}  lr={best[name]}")
        lines += [f"{'':42} {why}" for why in whys[2 * place : 2 * place + 2]]
    return lines


def main(
    optimizers: Sequence[str] = ("soap", "lion_k"),
    problems: Sequence[str] = tuple(PROBLEMS),
    trials: int = 8,
    seeds: int = 5,
    home: str | None = None,
) -> None:
    """Print what came out for each problem.

    Args:
        optimizers: beside the baseline.
        problems: of `PROBLEMS`.
        trials: of each optimizer.
        seeds: of the comparison.
        home: folder of the runs; None: one that is thrown away.
    """
    with tempfile.TemporaryDirectory() as thrown:
        for problem in problems:
            folder = Path(home or thrown) / problem
            names = [BASELINE, *(name for name in optimizers if name != BASELINE)]
            print("\n".join(measured(problem, names, trials, seeds, folder.resolve())), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=["soap", "lion_k"], choices=choices("optimizer"))
    parser.add_argument("--problems", nargs="+", default=list(PROBLEMS), choices=list(PROBLEMS))
    parser.add_argument("--trials", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--runs", default=None)
    chosen = parser.parse_args()
    main(chosen.optimizers, chosen.problems, chosen.trials, chosen.seeds, chosen.runs)

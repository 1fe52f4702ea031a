"""Every optimizer of conf/optimizer with methods of each kind; nobody registers it here.

python -m tests.modules.optimization.test_every_optimizer [--models MODEL ...] [--optimizers OPTIMIZER ...]

takes two steps of every one with every model that descends, and its state through a checkpoint.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import pytest
import torch

from compendium.config import choices
from compendium.errors import UserError
from tests.modules.test_contract import MODELS, planned, trained
from tests.reliability.kill_trials import unequal

OPTIMIZERS = sorted(set(choices("optimizer")) - {"none"})
OVER_ALL_WEIGHTS = ("cubic_newton", "gradient_normalized_newton", "super_universal_newton")
"""They hold a matrix over all weights, and refuse a vocabulary's."""
BRIEF = {"deepzero": ("optimizer.estimator=rge", "optimizer.queries=4", "optimizer.probes=2")}
"""By coordinates a step evaluates as often as there are weights."""
RUNS = {
    "accumulated": [
        "supervised/classifier",
        "data=wine",
        "net=mlp",
        "net.width=8",
        "trainer.accumulate_grad_batches=2",
    ],
    "bf16": ["generative/diffusion", "data=ring", "net=mlp", "net.width=8", "trainer.precision=bf16-mixed"],
    "tokens": ["language/language_model", "net.width=16", "net.depth=1", "net.heads=2", "datamodule.batch_size=4"],
}
"""A vector, a draw and a text; convolutions are in the tests of the optimizers that look at layers."""


@pytest.mark.parametrize("kind", RUNS)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_it_moves_every_weight_and_keeps_a_plain_state(optimizer, kind, tmp_path):
    model, *more = RUNS[kind]
    run = planned(
        model, tmp_path, f"optimizer={optimizer}", "schedule=constant", "trainer.limit_train_batches=4", *more
    )
    start = {name: value.clone() for name, value in built(run).method.named_parameters()}
    if kind == "tokens" and optimizer in OVER_ALL_WEIGHTS:
        with pytest.raises(UserError, match=r"optimizer\.largest"):
            trained(run)
        return
    parts = trained(run)
    moved = [name for name, value in parts.method.named_parameters() if not torch.equal(value, start[name])]
    assert set(moved) == {name for name, value in start.items() if value.requires_grad}
    assert all(value.isfinite().all() for value in parts.method.parameters())
    checkpoint = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    (state,) = checkpoint["optimizer_states"]
    assert all(plain(value) for entries in state["state"].values() for value in entries.values())


def built(run):
    """The parts of a run before it has begun."""
    from compendium.engine import build

    return build(run)


def plain(value) -> bool:
    """Whether a checkpoint can hold it for anybody to open."""
    return value is None or isinstance(value, torch.Tensor | int | float | str | bool | list | tuple)


def restored(parts, run) -> str:
    """What became of the optimizers' state on its way through the checkpoint into new optimizers."""
    checkpoint = torch.load(run.checkpoints / "last.ckpt", weights_only=True)
    strategy = parts.trainer.strategy
    strategy.setup_optimizers(parts.trainer)
    strategy.load_optimizer_state_dict(checkpoint)
    found = [strategy.optimizer_state(optimizer) for optimizer in parts.trainer.optimizers]
    other = unequal(found, checkpoint["optimizer_states"])
    return f"BROKEN: restored as another: {', '.join(other)}" if other else "ran"


def tried(model: str, optimizer: str) -> str:
    """What comes of a method with an optimizer."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            run = planned(model, Path(folder), f"optimizer={optimizer}", *BRIEF.get(optimizer, ()))
            return restored(trained(run), run)
        except UserError as error:
            return f"refused: {error.what}"
        except Exception as error:
            return f"BROKEN: {type(error).__name__}: {str(error).strip().splitlines()[0]}"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS, choices=OPTIMIZERS, metavar="OPTIMIZER")
    parser.add_argument("--models", nargs="+", default=MODELS, choices=MODELS, metavar="MODEL")
    asked = parser.parse_args()
    for model in asked.models:
        for optimizer in asked.optimizers:
            print(model, optimizer, tried(model, optimizer), flush=True)

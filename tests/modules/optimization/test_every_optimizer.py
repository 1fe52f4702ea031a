"""Every optimizer of conf/optimizer with methods of each kind; nobody registers it here.

python -m tests.modules.optimization.test_every_optimizer       every one with every model that descends, two steps
"""

from __future__ import annotations

import sys
import tempfile

import pytest
import torch

from compendium.config import choices
from compendium.errors import UserError
from tests.modules.test_contract import MODELS, planned, trained

OPTIMIZERS = sorted(set(choices("optimizer")) - {"none"})
OVER_ALL_WEIGHTS = ("cubic_newton", "gradient_normalized_newton", "super_universal_newton")
"""They hold a matrix over all weights, and refuse a vocabulary's."""
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


if __name__ == "__main__":
    asked = sys.argv[1:] or OPTIMIZERS
    for model in MODELS:
        for optimizer in asked:
            with tempfile.TemporaryDirectory() as folder:
                try:
                    trained(planned(model, folder, f"optimizer={optimizer}"))
                    said = "ran"
                except UserError as error:
                    said = str(error).splitlines()[0]
                except Exception as error:
                    said = f"BROKEN {type(error).__name__}: {error}"
            print(model, optimizer, said, flush=True)

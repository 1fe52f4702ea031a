"""Memory that the gradient of a reward through a chain of draws keeps: `model=generative/align_prop` with and without
computing activations anew.

What is counted are the bytes of the distinct tensors that automatic differentiation keeps for the way back; where they
are computed anew, those of one step come on top on the way.

    python -m benchmarks.generative.memory [--steps 15]
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from benchmarks.generative.peers import PICTURES, seconds
from compendium.compose import compose
from compendium.config import locate
from datamodules.batches import Unlabelled

BATCH = 16
CASES = {
    "plain backpropagation": {"recompute": False, "truncation": 10**6},
    "activations computed anew": {"recompute": True, "truncation": 10**6},
    "anew, the last 4 steps alone": {"recompute": True, "truncation": 4},
}


def method(steps: int, **changes: Any) -> Any:
    """AlignProp of a U-Net for pictures of 8 x 8."""
    values = compose(["model=generative/align_prop", "reward=brightness", "net=unet"]).values
    node = values["model"] | {"timesteps": values["model"]["timesteps"] | {"steps": steps}} | changes
    arguments = {key: value for key, value in node.items() if key != "_target_"}
    return locate(node["_target_"])(PICTURES, net=values["net"], optimizer=values["optimizer"], **arguments)


def kept(model: Any, batch: Unlabelled) -> int:
    """Bytes that the graph of a loss keeps, without the weights."""
    weights = {weight.data_ptr() for weight in model.parameters()}
    found: dict[int, int] = {}

    def note(x: Tensor) -> Tensor:
        if x.data_ptr() not in weights:
            found[x.data_ptr()] = x.untyped_storage().nbytes()
        return x

    with saved_tensors_hooks(note, lambda x: x):
        loss = model.loss(batch)
    del loss
    return sum(found.values())


def main(steps: int = 15) -> None:
    """Print the table."""
    torch.set_num_threads(1)
    batch = Unlabelled(torch.zeros(BATCH, *PICTURES.shape))
    print(f"{'':<30} {'kept':>10} {'step':>10}")
    for name, changes in CASES.items():
        model = method(steps, **changes)
        torch.manual_seed(0)
        model.loss(batch).backward()  # not counted
        took = seconds(lambda model=model: model.loss(batch).backward())
        print(f"{name:<30} {kept(model, batch) / 2**20:7.1f} MiB {took:8.2f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=15)
    main(parser.parse_args().steps)

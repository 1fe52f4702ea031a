"""What an optimizer keeps in memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from callbacks.evaluation.base import Evaluation
from compendium.restore import read_checkpoint
from datamodules.batches import Anything


class OfOptimizers(Evaluation):
    """Parent of evaluations of what the optimizers of a training leave behind, in this process.

    Args:
        measure: whether to give the figures.
        parts: the arguments of `Evaluation`.
    """

    batch_type = Anything
    stages = ("test",)

    def __init__(self, measure: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.measure = measure

    def misfit(self, method, spec):
        return None if self.measure else "nobody asked for it (measure=false)"


class OptimizerState(OfOptimizers):
    """Memory of the optimizers after a training, of this process.

    - `state_bytes_per_weight`: bytes of the tensors of their state, over the number of trained weights. 8 for Adam in
      float32, 4 for momentum. NaN where nothing was trained.

    Args:
        measure: whether to give the figure.
        parts: the arguments of `Evaluation`.
    """

    def compute(self, method, data) -> Mapping[str, float]:
        weights = sum(weight.numel() for weight in method.parameters() if weight.requires_grad)
        return {"state_bytes_per_weight": state_bytes(data.trainer) / weights if weights else float("nan")}


def state_bytes(trainer: Any) -> float:
    """Bytes of the state of a trainer's optimizers, or of those in the last checkpoint of a training that is over."""
    states = [dict(optimizer.state) for optimizer in trainer.optimizers]
    if not any(states):
        states = [kept["state"] for kept in last_states(trainer)]
    return float(sum(size(states))) if any(states) else float("nan")


def groups(trainer: Any) -> list[Mapping[str, Any]]:
    """The parameter groups of a trainer's optimizers, or those in the last checkpoint of a training that is over."""
    if trainer.optimizers:
        return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
    return [group for kept in last_states(trainer) for group in kept["param_groups"]]


def last_states(trainer: Any) -> list[Mapping[str, Any]]:
    """The optimizers' state in a training's last checkpoint; none where there is no checkpoint."""
    last = Path(trainer.default_root_dir) / "checkpoints/last.ckpt"
    return read_checkpoint(last, "cpu")["optimizer_states"] if last.is_file() else []


def size(node: Any) -> Iterator[int]:
    """Bytes of each tensor in nested lists and mappings."""
    if isinstance(node, Tensor):
        yield node.numel() * node.element_size()
    elif isinstance(node, Mapping):
        yield from size(list(node.values()))
    elif isinstance(node, Iterable) and not isinstance(node, str):
        for each in node:
            yield from size(each)

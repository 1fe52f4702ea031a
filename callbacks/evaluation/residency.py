"""How much of a model was on the device at once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from callbacks.evaluation.base import Evaluation
from compendium.restore import read_checkpoint
from datamodules.batches import Anything


class Residency(Evaluation):
    """What an optimizer that streams weights saves, of this process.

    - `resident_share`: most bytes of weights, and of changed copies of them, that were on the device at once while
      training, over the bytes of all weights. 1 for optimizers that do not keep an account (`peak` in their parameter
      groups): all weights are there. NaN where nothing was trained.

    Args:
        measure: whether to give the figure.
        parts: the arguments of `Evaluation`.
    """

    batch_type = Anything
    stages = ("test",)

    def __init__(self, measure: bool = False, **parts: Any) -> None:
        super().__init__(**parts)
        self.measure = measure

    def misfit(self, method, spec):
        return None if self.measure else "nobody asked for it (measure=false)"

    def compute(self, method, data) -> Mapping[str, float]:
        size = sum(weight.nbytes for weight in method.parameters())
        peaks = [group.get("peak", size) for group in groups(data.trainer)]
        return {"resident_share": max(peaks) / size if peaks and size else float("nan")}


def groups(trainer: Any) -> Iterator[Mapping[str, Any]]:
    """The parameter groups of a trainer's optimizers, or those in the last checkpoint of a training that is over."""
    if trainer.optimizers:
        for optimizer in trainer.optimizers:
            yield from optimizer.param_groups
    elif (last := Path(trainer.default_root_dir) / "checkpoints/last.ckpt").is_file():
        for state in read_checkpoint(last, "cpu")["optimizer_states"]:
            yield from state["param_groups"]

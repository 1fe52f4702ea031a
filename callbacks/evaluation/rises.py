"""How often a descent goes up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from modules.method import Method


class Rises(Evaluation):
    """Oscillation of a descent whose steps are all of the same records.

    - `rises`: share of the steps, from the second on, whose loss is above that of the step before. A loss that repeats
      itself to `tolerance` has not risen: at an optimum rounding alone goes up and down.

    Args:
        tolerance: a rise is a step to more than (1 + tolerance) times the loss of the step before.
        floor: losses below it count as the optimum's; rises among them are none.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a tolerance or a floor below 0.
    """

    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, tolerance: float = 1e-6, floor: float = 0.0, **parts: Any) -> None:
        super().__init__(**parts)
        if tolerance < 0 or floor < 0:
            raise UserError(f"{self.name}.tolerance={tolerance} {self.name}.floor={floor}: neither is below 0.")
        self.tolerance, self.floor = tolerance, floor
        self.before: Tensor | None = None
        self.counted = torch.zeros(2)  # rises, and steps that could be one

    def misfit(self, method, spec):
        return None if type(method).loss is not Method.loss else f"{type(method).__name__} has no loss"

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if outputs is None:
            return
        loss = (outputs["loss"] if isinstance(outputs, Mapping) else outputs).detach().double()
        if self.before is not None:
            rose = (loss > (1 + self.tolerance) * self.before) & (loss > self.floor)
            self.counted = self.counted.to(loss.device) + torch.stack([rose, torch.ones_like(rose)]).float()
        self.before = loss

    def compute(self, method, data) -> Mapping[str, float]:
        rises, steps = self.counted.tolist()
        return {"rises": rises / max(steps, 1)}

    def state_dict(self) -> dict[str, Tensor | None]:
        return {"counted": self.counted.cpu(), "before": None if self.before is None else self.before.cpu()}

    def load_state_dict(self, state_dict: dict[str, Tensor | None]) -> None:
        self.counted, self.before = state_dict["counted"], state_dict["before"]  # type: ignore[assignment]

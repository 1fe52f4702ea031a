"""How weights move away from where they began."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from datamodules.batches import Anything


class WeightDistance(Evaluation):
    """How |w_t - w_0| grows with the number of steps t: the diffusion of Hoffer et al. 2017, section 3.

    The distance is Euclidean, over all trained weights, at the steps t = 1, 2, ... each `ratio` times the one before,
    up to `last`. Of the least-squares lines through it,

    - `distance_r2_log`: share of its variance that a line in log t explains: an ultra-slow diffusion;
    - `distance_r2_root`: the share that a line in sqrt(t) explains, the diffusion of a walk without barriers;
    - `distance_slope`: of the line in log t, per factor e;
    - `distance`: the last one.

    With fewer than three steps, or weights that never move, they are NaN. The initial weights are part of the run's
    checkpoint.

    Args:
        last: the step that ends it, such as that of the first decay of the rate; None: nothing is evaluated.
        ratio: of two steps at which the distance is taken; 1.2.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a value out of range.
    """

    papers = ("hoffer2017train",)
    batch_type = Anything
    stages = ("test",)

    def __init__(self, last: int | None = None, ratio: float = 1.2, **parts: Any) -> None:
        super().__init__(**parts)
        if last is not None and last < 1:
            raise UserError(f"{self.name}.last={last}: at least one step, or null.")
        if ratio <= 1:
            raise UserError(f"{self.name}.ratio={ratio} is above 1.")
        self.last, self.ratio = last, ratio
        self.start_weights: Tensor | None = None
        self.steps: list[int] = []
        self.distances: list[Tensor] = []

    def misfit(self, method, spec):
        if self.last is None:
            return "nobody said up to which step (last=null)"
        return None if any(p.requires_grad for p in method.parameters()) else "no weight is trained"

    def on_train_start(self, trainer, pl_module):
        if self.active and self.start_weights is None:
            self.start_weights = vector(pl_module).clone()

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        step = trainer.global_step
        if not self.active or step > self.last or (self.steps and step < max(self.steps[-1] * self.ratio, 1)):
            return
        if step and step not in self.steps[-1:]:
            self.steps.append(step)
            self.distances.append((vector(pl_module) - self.start_weights.to(pl_module.device)).norm())

    def compute(self, method, data) -> Mapping[str, float]:
        if len(self.steps) < 3:
            return dict.fromkeys(("distance_r2_log", "distance_r2_root", "distance_slope", "distance"), math.nan)
        found = np.array([float(distance) for distance in self.distances])
        steps = np.array(self.steps, dtype=float)
        r2_log, slope = explained(np.log(steps), found)
        r2_root, _ = explained(np.sqrt(steps), found)
        names = {"distance_r2_log": r2_log, "distance_r2_root": r2_root, "distance_slope": slope}
        return names | {"distance": float(found[-1])}

    def state_dict(self) -> dict[str, Any]:
        if self.start_weights is None:
            return {}
        distances = [float(distance) for distance in self.distances]
        return {"start": self.start_weights, "steps": list(self.steps), "distances": distances}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.start_weights, self.steps = state_dict["start"], list(state_dict["steps"])
        self.distances = [torch.tensor(distance) for distance in state_dict["distances"]]


def vector(method: Any) -> Tensor:
    """All trained weights in a row."""
    return parameters_to_vector([p.detach() for p in method.parameters() if p.requires_grad])


def explained(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """(R^2, slope) of the least-squares line of y (n,) on x (n,); NaN where one of them does not vary."""
    x, y = x - x.mean(), y - y.mean()
    if not (x**2).sum() or not (y**2).sum():
        return math.nan, math.nan
    slope = (x * y).sum() / (x**2).sum()
    return float((x * y).sum() ** 2 / ((x**2).sum() * (y**2).sum())), float(slope)

"""Least squares within a ball: a problem whose optimum is known, to try optimizers on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import eigvalsh, lstsq, vector_norm

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class BoundedRegression(Method):
    """f(w) = 1/2 mean_i (x_i . w - z_i)^2, z the target in units of its spread, and its optimum in |w|_norm <= bound.

    Nothing in the loss keeps w within the bound: that is the optimizer's to do, as Lion-K's does with a decay of
    1 / bound. There is no intercept: records and z have mean 0 on the training split.

    The optimum is that of least squares where this lies within the bound; otherwise it is found in float64 by
    accelerated projected gradients (Beck and Teboulle 2009) to `precise`.

    Args:
        spec: vectors with a real target.
        bound: radius of the ball.
        norm: `inf`, the box, or `2`.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no such norm, or a bound that is not above 0.
    """

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)
    otherwise = "for classes: model=supervised/classifier"
    papers = ("chen2023lion",)
    precise = 1e-12

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], bound: float = 0.2, norm: str | float = "inf", **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        self.norm = float(norm)
        if self.norm not in (2.0, math.inf):
            raise UserError(f"model.norm={norm}: it is inf or 2.")
        if not bound > 0:
            raise UserError(f"model.bound={bound}: it is above 0.")
        self.bound = bound
        self.weight = nn.Parameter(torch.zeros(math.prod(self.spec.shape)))
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def on_fit_start(self) -> None:
        """Take the units of the target from the training split; a continued run has them in its checkpoint."""
        data = self.trainer.datamodule
        targets = data.columns["y"][data.rows["train"]].double()
        self.shift.fill_(targets.mean())
        self.scale.fill_(targets.std(correction=0).clamp_min(1e-12))

    def loss(self, batch: Labelled) -> Tensor:
        return 0.5 * (batch.x.flatten(1) @ self.weight - self.units(batch.y)).square().mean()

    def units(self, y: Tensor) -> Tensor:
        """Targets (B,) -> in units of the training targets' spread."""
        return (y - self.shift) / self.scale

    def optimality(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, D), y (N,) -> how far the weights are from the optimum, see `KnownOptimum`."""
        x, z, weight = x.flatten(1).double(), self.units(y.double()), self.weight.detach().double()
        best = self.optimum(x, z)

        def objective(w: Tensor) -> float:
            return float(0.5 * (x @ w - z).square().mean())

        return {
            "suboptimality": objective(weight) - objective(best),
            "distance": float((weight - best).abs().max()),
            "violation": max(float(vector_norm(weight, self.norm)) / self.bound - 1, 0.0),
        }

    def optimum(self, x: Tensor, z: Tensor) -> Tensor:
        """The best weights (D,) within the bound for records x (N, D) and targets z (N,), float64."""
        free = lstsq(x, z[:, None], driver="gelsd" if x.device.type == "cpu" else None).solution[:, 0]
        if vector_norm(free, self.norm) <= self.bound:
            return free
        matrix, slope = x.T @ x / len(x), x.T @ z / len(x)
        rate = 1 / float(eigvalsh(matrix)[-1])
        best = ahead = torch.zeros_like(free)
        momentum = 1.0
        for _ in range(100_000):
            new = self.projected(ahead - rate * (matrix @ ahead - slope))
            following = (1 + math.sqrt(1 + 4 * momentum**2)) / 2
            moved = new - best
            if float((ahead - new) @ moved) > 0:  # it goes back: the momentum starts anew (O'Donoghue and Candes 2015)
                following, ahead = 1.0, new
            else:
                ahead = new + (momentum - 1) / following * moved
            best, momentum = new, following
            if float((self.projected(best - rate * (matrix @ best - slope)) - best).abs().max()) < self.precise:
                break
        return best

    def projected(self, w: Tensor) -> Tensor:
        """w (D,) -> the nearest weights within the bound."""
        if self.norm == math.inf:
            return w.clamp(-self.bound, self.bound)
        return w * (self.bound / vector_norm(w).clamp_min(1e-300)).clamp(max=1)

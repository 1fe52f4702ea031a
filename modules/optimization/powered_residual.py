"""A power of the residual of linear equations: a problem that is flat at its optimum, to try optimizers on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import lstsq, vector_norm

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class PoweredResidual(Method):
    """f(w) = 1/p |u|^p, u_i = (<x_i, w> - y_i) / sqrt(N): for p > 2 the Hessian vanishes at a solution.

    Training starts at ones. `data=linear` with `data.noise=0` has a solution, whatever the number of records.

    Args:
        spec: vectors with a real target.
        power: p, at least 2; 4 as in the experiments of Semenov et al. 2025.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a value out of range.
    """

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)
    otherwise = "data=linear makes such data"
    papers = ("semenov2025gradient",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], power: float = 4.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if power < 2:
            raise UserError(f"model.power={power}: it is at least 2.")
        self.power = power
        self.weight = nn.Parameter(torch.ones(math.prod(self.spec.shape)))

    def residual(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """u (N,)."""
        return (x.flatten(1).to(weight) @ weight - y.to(weight)) / len(x) ** 0.5

    def loss(self, batch: Labelled) -> Tensor:
        # |u|^p as a power of |u|^2, which has derivatives at 0
        return self.residual(batch.x, batch.y, self.weight).square().sum() ** (self.power / 2) / self.power

    def approximate_hessian(self, batch: Labelled) -> Tensor:
        """The Fisher term (p - 2) |u|^-p g g^T (D, D), of rank one: the Hessian less |u|^(p - 2) J^T J."""
        weight = self.weight.detach()
        u = self.residual(batch.x, batch.y, weight)
        back = batch.x.flatten(1).to(weight).T @ u / len(batch.x) ** 0.5
        return (self.power - 2) * vector_norm(u) ** (self.power - 4) * torch.outer(back, back)

    def optimality(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, D), y (N,) -> how far the weights are from the optimum, see `KnownOptimum`."""
        x, y, weight = x.flatten(1).double(), y.double(), self.weight.detach().double()
        best = lstsq(x, y[:, None], driver="gelsd" if x.device.type == "cpu" else None).solution[:, 0]
        values = [float(vector_norm(self.residual(x, y, w)) ** self.power / self.power) for w in (weight, best)]
        return {
            "suboptimality": values[0] - values[1],
            "distance": float((weight - best).abs().max()),
            "violation": 0.0,
        }

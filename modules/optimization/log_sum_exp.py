"""A soft maximum of linear functions: a problem with a known optimum, to try optimizers on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class LogSumExp(Method):
    """f(w) = mu log sum_i exp((<a_i, w> - b_i) / mu), less f(0), with a_i shifted so that w = 0 is the optimum.

    a_i = x_i - sum_j p_j x_j with p = softmax(-b / mu) and b_i the target: the gradient at 0 is 0, and so is the least
    value. Training starts at ones. The smaller mu, the sharper the maximum and the less it is like its second-order
    model. The data set is the problem: all records in one batch.

    Args:
        spec: vectors with a real target.
        mu: smoothing, above 0; 0.1.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a value out of range.
    """

    batch_type = Labelled
    kinds = ("vector",)
    targets = ("real",)
    otherwise = "data=linear makes such data"
    papers = ("semenov2025gradient",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], mu: float = 0.1, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not mu > 0:
            raise UserError(f"model.mu={mu}: it is above 0.")
        self.mu = mu
        self.weight = nn.Parameter(torch.ones(math.prod(self.spec.shape)))

    def exponents(self, x: Tensor, y: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Rows a (N, D), and (<a_i, w> - b_i) / mu (N,), in the precision of the weights."""
        x, y = x.flatten(1).to(weight), y.to(weight)
        rows = x - (-y / self.mu).softmax(0) @ x
        return rows, (rows @ weight - y) / self.mu

    def value(self, x: Tensor, y: Tensor, weight: Tensor) -> Tensor:
        """f (), at least 0."""
        _, exponents = self.exponents(x, y, weight)
        return self.mu * (exponents.logsumexp(0) - (-y.to(weight) / self.mu).logsumexp(0))

    def loss(self, batch: Labelled) -> Tensor:
        return self.value(batch.x, batch.y, self.weight)

    def approximate_hessian(self, batch: Labelled) -> Tensor:
        """The weighted Gauss-Newton matrix 1 / mu A^T diag(p) A (D, D), p the softmax: the Hessian plus g g^T / mu."""
        rows, exponents = self.exponents(batch.x, batch.y, self.weight.detach())
        return rows.T @ (exponents.softmax(0)[:, None] * rows) / self.mu

    def optimality(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, D), y (N,) -> how far the weights are from the optimum, see `KnownOptimum`."""
        weight = self.weight.detach().double()
        return {
            "suboptimality": float(self.value(x, y, weight)),
            "distance": float(weight.abs().max()),
            "violation": 0.0,
        }

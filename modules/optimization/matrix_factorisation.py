"""A matrix as a product of two thin ones: a problem that is not convex and has a known optimum."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.linalg import eigh

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class MatrixFactorisation(Method):
    """f(A, B) = 1/2 mean_i |x_i - B^T A^T x_i|^2, A (D, rank) and B (rank, D): the linear autoencoder.

    The records X (N, D) are factorised as (X A) B. Every minimum is global: A B projects on the `rank` foremost
    eigenvectors of the second moment of x, and the least value is half the sum of its other eigenvalues (Baldi and
    Hornik 1989). Targets are not looked at. Entries of A and B begin as draws from N(0, 1 / D) and N(0, 1 / rank).

    Args:
        spec: pictures or vectors.
        rank: at least 1, below D.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a rank out of range.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class", "real")

    def __init__(self, spec: DataSpec | Mapping[str, Any], rank: int = 8, **parts: Any) -> None:
        super().__init__(spec, **parts)
        size = math.prod(self.spec.shape)
        if not 1 <= rank < size:
            raise UserError(f"model.rank={rank}: it lies from 1 to {size - 1}, below the size of a record.")
        self.rank = rank
        self.encoder = nn.Parameter(torch.randn(size, rank) / size**0.5)
        self.decoder = nn.Parameter(torch.randn(rank, size) / rank**0.5)

    def loss(self, batch: Labelled) -> Tensor:
        x = batch.x.flatten(1)
        return 0.5 * (x - self.embed(x) @ self.decoder).square().sum(1).mean()

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> its code (B, rank)."""
        return x.flatten(1) @ self.encoder

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, ...) -> what its code says of it (B, ...)."""
        return (self.embed(x) @ self.decoder).view(x.shape)

    def optimality(self, x: Tensor, y: Tensor) -> dict[str, float]:
        """Training records x (N, ...) -> how far A B is from the best projection, see `KnownOptimum`."""
        x = x.flatten(1).double()
        moment = x.T @ x / len(x)
        values, vectors = eigh(moment)
        best = vectors[:, -self.rank :] @ vectors[:, -self.rank :].T
        product = self.encoder.detach().double() @ self.decoder.detach().double()
        left = torch.eye(len(moment), dtype=torch.float64, device=x.device) - product
        value = 0.5 * (left.T @ moment @ left).trace()
        return {
            "suboptimality": float(value - 0.5 * values[: -self.rank].sum()),
            "distance": float((product - best).abs().max()),
            "violation": 0.0,
        }

"""What optimizers share that keep one matrix per side of a tensor, and so precondition with a Kronecker product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import StackedOptimizer, check_at_least_zero, check_betas


class KroneckerOptimizer(StackedOptimizer):
    """Parent of optimizers with a matrix per side.

    Tensors with two sides or more have a matrix for each side up to `max_precond_dim`. Whole tensors are needed: the
    shards of FSDP are flat and have no sides, so that a step would be Adam's.

    Args:
        params: tensors, or groups of them with arguments of their own.
        lr: learning rate.
        betas: decay of the first moment, and of second moment and matrices.
        eps: what is added to the root of the second moment.
        weight_decay: decoupled decay.
        precondition_frequency: steps from one decomposition of the matrices to the next.
        max_precond_dim: largest side that has a matrix.
        more: the subclass's own.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        params: Iterable[Any],
        *,
        lr: float,
        betas: Sequence[float],
        eps: float,
        weight_decay: float,
        precondition_frequency: int,
        max_precond_dim: int,
        **more: float,
    ) -> None:
        check_at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay, **more)
        if precondition_frequency < 1:
            raise UserError(f"optimizer.precondition_frequency={precondition_frequency}: at least every step, 1.")
        super().__init__(
            params,
            lr=lr,
            betas=check_betas(betas),
            eps=eps,
            weight_decay=weight_decay,
            precondition_frequency=precondition_frequency,
            max_precond_dim=max_precond_dim,
            **more,
        )


def sides_of(x: Tensor, largest: int) -> list[int]:
    """Which sides of the tensors of a stack (B, ...) have a matrix: those up to a size, none of a vector."""
    shape = x.shape[1:]
    return [side for side, size in enumerate(shape) if size <= largest] if len(shape) > 1 else []


def outer(x: Tensor, side: int) -> Tensor:
    """X X^T (B, d, d) of each tensor of a stack, unfolded along a side of size d to X (B, d, rest)."""
    unfolded = x.movedim(side + 1, 1).flatten(2)
    return unfolded @ unfolded.mT


def multiply(x: Tensor, matrices: Sequence[Tensor | None]) -> Tensor:
    """The tensors of a stack (B, d1, ..., dn), each side k multiplied by M_k^T (B, d_k, d_k), None for the identity.

    For matrices: M_1^T X M_2.
    """
    if not any(matrix is not None for matrix in matrices):
        return x
    for matrix in matrices:  # the foremost side is multiplied and goes last; after all of them they stand as before
        rest = x.shape[2:]
        x = x.flatten(2).mT
        x = (x if matrix is None else x @ matrix).unflatten(1, rest)
    return x


def eigh(matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues (B, d), ascending, and eigenvectors (B, d, d) in columns, of symmetric matrices (B, d, d).

    In float64 where the decomposition does not converge in float32.

    Raises:
        UserError: a matrix holds a number that is not finite.
    """
    try:
        return torch.linalg.eigh(matrices)
    except torch.linalg.LinAlgError:
        if not matrices.isfinite().all():
            raise UserError(
                "the optimizer met a gradient that is not finite.",
                "Lower optimizer.lr, or clip: trainer.gradient_clip_val=1",
            ) from None
        values, vectors = torch.linalg.eigh(matrices.double())
        return values.to(matrices.dtype), vectors.to(matrices.dtype)

"""GaLore: Adam on a low-rank projection of the gradient; the baseline of Fira."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import Product, StackedOptimizer, check_at_least_zero, check_betas, check_count, stack

Matrices = Tensor | list[Tensor]
"""Matrices of equal shape, in a stack (B, m, n) or each by itself, as on a CPU, where the copy takes longest."""


class GaLore(StackedOptimizer):
    """Adam of rank r. For a matrix with gradient G (m, n), m <= n, at each step:

        P = the first r left singular vectors of G (m, r), at every `refresh`-th step     R = P^T G  (r, n)
        M = beta1 M + (1 - beta1) R     V = beta2 V + (1 - beta2) R^2
        psi(R) = M / (1 - beta1^t) / (sqrt(V / (1 - beta2^t)) + eps)
        theta <- theta - lr scale P psi(R)

    and where m > n the same of G^T. M and V stay as they are when P changes. A state of (m + 2n) r numbers takes the
    place of Adam's 2mn. Vectors, matrices with no side above r, and those with a side above `max_dim` are Adam's, with
    the plain lr. A tensor of more sides is the matrix of its first and all others.

    Zhao et al. 2024, "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection", Algorithm 1.

    Deviations: (1) which matrices have a projection is told by their sides, where the authors name the layers of
    attention and MLPs; (2) weight decay acts before the step instead of after it, as in AdamW.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 0.01, the authors' for pre-training, like rank 128, scale and refresh.
        betas: of M and V; 0.9 and 0.999, Adam's.
        eps: what is added to the root of V; 1e-6 as in the authors' code.
        weight_decay: decoupled; 0 as there.
        rank: r.
        refresh: steps from one P to the next.
        scale: of the steps of projected tensors.
        max_dim: largest side of a projected matrix; 10000 leaves out the usual vocabularies.

    Raises:
        UserError: a value out of range, or a gradient that is not finite.
    """

    papers: tuple[str, ...] = ("chen2024fira",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-2,
        betas: Sequence[float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        rank: int = 128,
        refresh: int = 200,
        scale: float = 0.25,
        max_dim: int = 10000,
    ) -> None:
        check_at_least_zero(lr=lr, eps=eps, weight_decay=weight_decay, scale=scale)
        check_count(rank=rank, refresh=refresh)
        super().__init__(
            params,
            lr=lr,
            betas=check_betas(betas),
            eps=eps,
            weight_decay=weight_decay,
            rank=rank,
            refresh=refresh,
            scale=scale,
            max_dim=max_dim,
        )

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        if not projected(gradients, group):
            return {"first": torch.zeros_like(gradients), "second": torch.zeros_like(gradients)}
        matrices = gradients.flatten(2)
        basis = matrices.new_zeros(len(matrices), min(matrices.shape[1:]), group["rank"])
        low = into(matrices, basis)
        return {"first": torch.zeros_like(low), "second": torch.zeros_like(low), "basis": basis}

    def directions(
        self, gradients: list[Tensor], state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> Tensor | Product:
        if "basis" not in state:
            scaled, correction = self._scaled(stack(gradients), state, step, group)
            return scaled.mul_(correction)
        matrices: Matrices = [gradient.flatten(1) for gradient in gradients]
        if gradients[0].device.type != "cpu":  # a product for all is worth the copy where each is launched
            matrices = stack(matrices)
        if (step - 1) % group["refresh"] == 0:
            stacked = matrices if isinstance(matrices, Tensor) else stack(matrices)
            state["basis"] = foremost(stacked if lie(matrices) else stacked.mT, group["rank"])
        low = into(matrices, state["basis"])
        scaled, correction = self._scaled(low, state, step, group)
        rate = correction * group["scale"]
        rest = self.rest(matrices, low, scaled, rate, state, step, group)
        update = out_of(scaled, state["basis"], rate)
        if rest is None:
            return update
        return rest.baddbmm_(update.left, update.right, alpha=rate).view(-1, *gradients[0].shape)

    def _scaled(
        self, low: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> tuple[Tensor, float]:
        """R -> what psi(R) is proportional to, and by which factor; renews M and V."""
        beta1, beta2 = group["betas"]
        first = state["first"].lerp_(low, 1 - beta1)
        second = state["second"].lerp_(low.square(), 1 - beta2)
        late = math.sqrt(1 - beta2**step)
        scale = second.sqrt().add_(group["eps"] * late)
        return torch.div(first, scale, out=scale), late / (1 - beta1**step)

    def rest(
        self,
        matrices: Matrices,
        low: Tensor,
        scaled: Tensor,
        rate: float,
        state: dict[str, Tensor],
        step: int,
        group: Mapping[str, Any],
    ) -> Tensor | None:
        """What is stepped along outside of the basis, times `rate`, of G, R and psi(R), stacks in their own sides."""
        return None


def projected(gradients: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether the tensors of a stack (B, ...) have a projection."""
    sides = gradients.flatten(2).shape[1:] if gradients.dim() > 2 else ()
    return len(sides) == 2 and min(sides) > group["rank"] and max(sides) <= group["max_dim"]


def lie(matrices: Matrices) -> bool:
    """Whether matrices (m, n) have m <= n. Others are projected from the right: nothing is ever turned around."""
    return matrices[0].shape[0] <= matrices[0].shape[1]


def into(matrices: Matrices, basis: Tensor) -> Tensor:
    """Matrices (B, m, n) in a basis of their shorter side (B, m or n, r) -> (B, r, n) or (B, m, r)."""
    if isinstance(matrices, Tensor):
        return basis.mT @ matrices if lie(matrices) else matrices @ basis
    left, right = (basis.mT, matrices) if lie(matrices) else (matrices, basis)
    low = basis.new_empty(len(matrices), len(left[0]), right[0].shape[1])
    for one, other, place in zip(left, right, low, strict=True):
        torch.mm(one, other, out=place)
    return low


def out_of(low: Tensor, basis: Tensor, factor: float = 1.0) -> Product:
    """What `into` gave -> matrices (B, m, n), times a factor."""
    left, right = (basis, low) if low.shape[1] == basis.shape[2] else (low, basis.mT)
    return Product(left, right, factor)


def without(matrices: Matrices, low: Tensor, basis: Tensor) -> Tensor:
    """What matrices (B, m, n) have outside of a basis, of what they are in it."""
    inside = out_of(low, basis)
    if isinstance(matrices, Tensor):
        return torch.baddbmm(matrices, inside.left, inside.right, alpha=-1)
    outside = low.new_empty(len(matrices), *matrices[0].shape)
    for matrix, left, right, place in zip(matrices, inside.left, inside.right, outside, strict=True):
        torch.addmm(matrix, left, right, alpha=-1, out=place)
    return outside


def foremost(matrices: Tensor, rank: int) -> Tensor:
    """The first left singular vectors (B, m, rank) of matrices (B, m, n).

    Raises:
        UserError: a matrix holds a number that is not finite.
    """
    if not matrices.isfinite().all():
        raise UserError(
            "the optimizer met a gradient that is not finite.",
            "Lower optimizer.lr, or clip: trainer.gradient_clip_val=1",
        )
    return torch.linalg.svd(matrices, full_matrices=False).U[:, :, :rank].contiguous()

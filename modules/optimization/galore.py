"""GaLore: Adam on a low-rank projection of the gradient; the baseline of Fira."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.stacked import StackedOptimizer, check_at_least_zero, check_betas, check_count


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

    def direction(self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        matrices = low = gradients
        if "basis" in state:
            matrices = gradients.flatten(2)
            if (step - 1) % group["refresh"] == 0:
                state["basis"] = foremost(matrices if lies(matrices) else matrices.mT, group["rank"])
            low = into(matrices, state["basis"])
        first = state["first"].lerp_(low, 1 - beta1)
        second = state["second"].lerp_(low.square(), 1 - beta2)
        late = math.sqrt(1 - beta2**step)
        scaled = first / second.sqrt().add_(group["eps"] * late)  # psi(R) is this times `correction`
        correction = late / (1 - beta1**step)
        if "basis" not in state:
            return scaled.mul_(correction)
        rate = correction * group["scale"]
        rest = self.rest(matrices, low, scaled, rate, state, step, group)
        update = out_of(scaled.mul_(rate), state["basis"])
        return (update if rest is None else rest.add_(update)).view(gradients.shape)

    def rest(
        self,
        matrices: Tensor,
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


def lies(matrices: Tensor) -> bool:
    """Whether matrices (B, m, n) have m <= n. Others are projected from the right: nothing is ever turned around."""
    return matrices.shape[1] <= matrices.shape[2]


def into(matrices: Tensor, basis: Tensor) -> Tensor:
    """Matrices (B, m, n) in a basis of their shorter side (B, m or n, r) -> (B, r, n) or (B, m, r)."""
    return basis.mT @ matrices if lies(matrices) else matrices @ basis


def out_of(low: Tensor, basis: Tensor) -> Tensor:
    """What `into` gave -> matrices (B, m, n)."""
    return basis @ low if low.shape[1] == basis.shape[2] else low @ basis.mT


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

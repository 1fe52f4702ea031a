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
        wide = lying(gradients)
        count, short, long = wide.shape
        low = wide.new_zeros(count, group["rank"], long)
        return {"first": low, "second": torch.zeros_like(low), "basis": wide.new_zeros(count, short, group["rank"])}

    def direction(self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        wide = low = gradients
        if "basis" in state:
            wide = lying(gradients)
            if (step - 1) % group["refresh"] == 0:
                state["basis"] = foremost(wide, group["rank"])
            low = state["basis"].mT @ wide
        first = state["first"].lerp_(low, 1 - beta1)
        second = state["second"].lerp_(low.square(), 1 - beta2)
        late = math.sqrt(1 - beta2**step)
        scaled = first / second.sqrt().add_(group["eps"] * late)  # psi(R) is this times `correction`
        correction = late / (1 - beta1**step)
        if "basis" not in state:
            return scaled.mul_(correction)
        update = state["basis"] @ scaled
        rest = self.rest(wide, low, scaled, state, step, group)
        if rest is not None:
            update += rest
        return standing(update, gradients).mul(correction * group["scale"])

    def rest(
        self,
        wide: Tensor,
        low: Tensor,
        scaled: Tensor,
        state: dict[str, Tensor],
        step: int,
        group: Mapping[str, Any],
    ) -> Tensor | None:
        """What is stepped along outside of the basis (B, m, n), from G (B, m, n), R and psi(R) (B, r, n) each."""
        return None


def projected(gradients: Tensor, group: Mapping[str, Any]) -> bool:
    """Whether the tensors of a stack (B, ...) have a projection."""
    sides = gradients.flatten(2).shape[1:] if gradients.dim() > 2 else ()
    return len(sides) == 2 and min(sides) > group["rank"] and max(sides) <= group["max_dim"]


def lying(gradients: Tensor) -> Tensor:
    """A stack (B, a, ...) -> matrices (B, m, n) with m <= n."""
    flat = gradients.flatten(2)
    return flat if flat.shape[1] <= flat.shape[2] else flat.mT


def standing(update: Tensor, like: Tensor) -> Tensor:
    """What `lying` made of a stack, as that stack was."""
    flat = like.flatten(2)
    return (update if flat.shape[1] <= flat.shape[2] else update.mT).reshape(like.shape)


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

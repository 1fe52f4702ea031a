"""Fira: full-rank steps from an optimizer state of low rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from compendium.errors import UserError
from modules.optimization.galore import GaLore, lie, without


class Fira(GaLore):
    """GaLore, whose step also has what its projection leaves out. In GaLore's notation, for each column i of G:

        phi_i = |psi(R)_:i| / |R_:i|                    S_:i = phi_i (G - P R)_:i
        S <- limit |S'| S / |S|  where  |S| > limit |S'|     S' the S of the step before, as it was limited
        theta <- theta - lr scale (P psi(R) + S)

    The state is GaLore's and one number. Where r is the rank of the gradients S is 0; where no side is above r it is
    Adam.

    Chen et al. 2024, "Fira: Can We Achieve Full-rank Training of LLMs Under Low-rank Constraint?", sections 4.1
    (norm-based scaling) and 4.2 (norm-growth limiter).

    Deviations: those of GaLore; (3) `scale` applies to both terms, where the authors' code takes it to P psi(R) and, in
    S, to P R; at a scale of 1 they agree. As there, norms of S leave out Adam's correction of bias, which is part of
    the rate.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 0.01 as in the authors' code, like the other defaults.
        betas: of M and V.
        eps: what is added to the root of V.
        weight_decay: decoupled.
        rank: r.
        refresh: steps from one P to the next.
        scale: of the steps of projected tensors.
        max_dim: largest side of a projected matrix.
        limit: largest growth of |S| in a step, at least 1; 1.01 as in the paper.

    Raises:
        UserError: a value out of range, or a gradient that is not finite.
    """

    papers = ("chen2024fira",)

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
        limit: float = 1.01,
    ) -> None:
        if not limit >= 1:
            raise UserError(f"optimizer.limit={limit}: a growth that is allowed is at least 1.")
        super().__init__(params, lr, betas, eps, weight_decay, rank, refresh, scale, max_dim)
        self.defaults["limit"] = limit
        for group in self.param_groups:
            group.setdefault("limit", limit)

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        state = super().start(gradients, group)
        if "basis" in state:
            state["size"] = gradients.new_zeros(len(gradients))
        return state

    def rest(self, matrices, low, scaled, rate, state, step, group):
        short = 1 if lie(matrices) else 2
        tiny = torch.finfo(low.dtype).tiny
        scales = vector_norm(scaled, dim=short, keepdim=True)
        scales /= vector_norm(low, dim=short, keepdim=True).clamp_(min=tiny)
        rest = without(matrices, low, state["basis"]).mul_(scales)
        size = vector_norm(rest, dim=(1, 2))
        kept = rate * torch.ones_like(size)
        if step > 1:
            # After a step without a rest any growth is allowed: there is nothing to compare with.
            most = torch.where(state["size"] > 0, group["limit"] * state["size"], size)
            kept *= (most / size.clamp(min=tiny)).clamp(max=1)
            size = torch.minimum(size, most)
        state["size"] = size
        return rest.mul_(kept[:, None, None])

"""SOAP: Adam in the eigenbasis of Shampoo's preconditioner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from modules.optimization.kronecker import KroneckerOptimizer, eigh, multiply, outer, sides_of


class SOAP(KroneckerOptimizer):
    """Adam on the gradient rotated into a slowly changing eigenbasis. For a matrix with gradient G, at each step:

        G_r = Q_L^T G Q_R                       M = beta1 M + (1 - beta1) G         M_r = Q_L^T M Q_R
        V   = beta2 V + (1 - beta2) G_r^2       U = M_r / (1 - beta1^t) / (sqrt(V / (1 - beta2^t)) + eps)
        L   = beta2 L + (1 - beta2) G G^T       R = beta2 R + (1 - beta2) G^T G
        theta <- theta - lr Q_L U Q_R^T

    and at every `precondition_frequency`-th step one power iteration, Q_L <- QR(L Q_L), Q_R <- QR(R Q_R), in the order
    of falling eigenvalue estimates diag(Q_L^T L Q_L), to which V is reordered. The first bases are exact eigenbases.
    Vectors are Adam's, and a larger side than `max_precond_dim` keeps the identity as its basis. A tensor of more sides
    has a basis for each. What is kept of M is M_r, which turns with the bases.

    The first step only starts L, R and the bases and moves nothing, as in the authors' code: no gradient is ever
    rotated by a basis that it had a part in.

    Vyas et al. 2024, "SOAP: Improving and Stabilizing Shampoo using Adam", Algorithms 3 and 4.

    Deviations: (1) weight decay acts before the step and `eps` after the correction of bias, as in AdamW, where the
    authors' code has both the other way around; they differ by lr^2 * weight_decay and by eps.

    Args:
        params: as in any torch optimizer.
        lr: learning rate; 3e-3 as in the authors' code, like all defaults here.
        betas: of M, and of V, L and R.
        eps: what is added to the root of V.
        weight_decay: decoupled.
        precondition_frequency: steps from one power iteration to the next.
        max_precond_dim: largest side with a basis; 10000 leaves out the usual vocabularies.

    Raises:
        UserError: a value out of range, or a gradient that is not finite.
    """

    papers = ("vyas2024soap",)

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 3e-3,
        betas: Sequence[float] = (0.95, 0.95),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        precondition_frequency: int = 10,
        max_precond_dim: int = 10000,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            precondition_frequency=precondition_frequency,
            max_precond_dim=max_precond_dim,
        )

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        state = {"first": torch.zeros_like(gradients), "second": torch.zeros_like(gradients)}
        for side in sides_of(gradients, group["max_precond_dim"]):
            state[f"covariance_{side}"] = (1 - group["betas"][1]) * outer(gradients, side)
            state[f"basis_{side}"] = eigh(state[f"covariance_{side}"])[1].flip(2)
        return state

    def direction(
        self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]
    ) -> Tensor | None:
        if step == 1:
            return None
        beta1, beta2 = group["betas"]
        moves = step - 1
        bases = [state.get(f"basis_{side}") for side in range(gradients.dim() - 1)]
        turned = multiply(gradients, bases)
        first = state["first"].lerp_(turned, 1 - beta1)
        second = state["second"].lerp_(turned.square(), 1 - beta2)
        unbias = 1 - beta1**moves
        scale = (second * (unbias**2 / (1 - beta2**moves))).sqrt_().add_(group["eps"] * unbias)
        direction = multiply(torch.div(first, scale, out=scale), turned_back(bases))
        for side, basis in enumerate(bases):
            if basis is not None:
                state[f"covariance_{side}"].lerp_(outer(gradients, side), 1 - beta2)
        if moves % group["precondition_frequency"] == 0:
            self.renew(bases, state)
        return direction

    def renew(self, bases: list[Tensor | None], state: dict[str, Tensor]) -> None:
        """Take the state to improved bases."""
        new = list(bases)
        for side, basis in enumerate(bases):
            if basis is None:
                continue
            new[side], order = improved(basis, state[f"covariance_{side}"])
            state[f"basis_{side}"] = new[side]
            place = [-1 if axis == side + 1 else 1 for axis in range(1, state["second"].dim())]
            order = order.view(len(order), *place).expand_as(state["second"])
            state["second"] = state["second"].gather(side + 1, order)
        state["first"] = multiply(multiply(state["first"], turned_back(bases)), new).contiguous()


def turned_back(bases: list[Tensor | None]) -> list[Tensor | None]:
    """What leads from coordinates in some bases to where they came from."""
    return [None if basis is None else basis.mT for basis in bases]


def improved(basis: Tensor, covariance: Tensor) -> tuple[Tensor, Tensor]:
    """One power iteration from an orthogonal basis (B, d, d) towards the eigenvectors of covariances (B, d, d).

    Returns:
        The new basis (B, d, d), and which column of the old one (B, d) each of its columns came from.
    """
    power = covariance @ basis
    order = (basis * power).sum(1).argsort(dim=1, descending=True, stable=True)
    return torch.linalg.qr(power.gather(2, order[:, None].expand_as(power)))[0], order

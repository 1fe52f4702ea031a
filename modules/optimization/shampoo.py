"""Shampoo with the step sizes of Adam: the baseline of SOAP."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.linalg import vector_norm

from modules.optimization.kronecker import KroneckerOptimizer, eigh, multiply, outer, sides_of


class Shampoo(KroneckerOptimizer):
    """Shampoo whose layers have the norm of Adam's step. For a matrix with gradient G, at each step:

        M = beta1 M + (1 - beta1) G             V = beta2 V + (1 - beta2) G^2
        L = beta2 L + (1 - beta2) G G^T         R = beta2 R + (1 - beta2) G^T G
        A = M / (1 - beta1^t) / (sqrt(V / (1 - beta2^t)) + eps)
        S = P_L M P_R                           P_L = (L / (1 - beta2^t) + matrix_eps I)^-power, P_R likewise
        theta <- theta - lr S |A| / |S|         |.| the Frobenius norm

    P_L and P_R are computed at every `precondition_frequency`-th step; up to the first time the step is A. Vectors are
    Adam's, and a larger side than `max_precond_dim` keeps the identity as its P. A tensor of more sides has a matrix
    for each.

    Gupta, Koren and Singer 2018, "Shampoo: Preconditioned Stochastic Tensor Optimization", with exponential averages
    and grafting as in the implementation of Shi et al. 2023 (DistributedShampoo), which Vyas et al. 2024 take as their
    baseline.

    Deviations from that implementation: (1) sides beyond `max_precond_dim` are left alone instead of cut into blocks;
    (2) vectors are Adam's instead of having a full matrix; (3) the power is 1/2 by default instead of 1/4.

    Args:
        params: as in any torch optimizer.
        lr: learning rate, in Adam's units.
        betas: of M, and of V, L and R; 0.95 each, as SOAP.
        eps: 1e-8, Adam's.
        weight_decay: decoupled; 0.01 as SOAP.
        precondition_frequency: steps between two computations of P; 10, as SOAP.
        max_precond_dim: largest side with a matrix; 10000, as SOAP.
        power: of the inverse root of each side; 1/2, the variant that Vyas et al. 2024 connect with Adafactor; 1/4 is
            Gupta et al.'s for matrices.
        matrix_eps: ridge of L and R; 1e-12 as in DistributedShampoo.

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
        power: float = 0.5,
        matrix_eps: float = 1e-12,
    ) -> None:
        super().__init__(
            params,
            lr=lr,
            betas=betas,
            eps=eps,
            weight_decay=weight_decay,
            precondition_frequency=precondition_frequency,
            max_precond_dim=max_precond_dim,
            power=power,
            matrix_eps=matrix_eps,
        )

    def start(self, gradients: Tensor, group: Mapping[str, Any]) -> dict[str, Tensor]:
        state = {"first": torch.zeros_like(gradients), "second": torch.zeros_like(gradients)}
        for side in sides_of(gradients, group["max_precond_dim"]):
            state[f"covariance_{side}"] = torch.zeros_like(outer(gradients, side))
            state[f"root_{side}"] = torch.zeros_like(state[f"covariance_{side}"])
        return state

    def direction(self, gradients: Tensor, state: dict[str, Tensor], step: int, group: Mapping[str, Any]) -> Tensor:
        beta1, beta2 = group["betas"]
        first = state["first"].lerp_(gradients, 1 - beta1)
        second = state["second"].lerp_(gradients.square(), 1 - beta2)
        sides = sides_of(gradients, group["max_precond_dim"])
        for side in sides:
            covariance = state[f"covariance_{side}"].lerp_(outer(gradients, side), 1 - beta2)
            if step % group["precondition_frequency"] == 0:
                corrected = covariance / (1 - beta2**step)
                state[f"root_{side}"] = inverse_power(corrected, group["power"], group["matrix_eps"])
        adam = (first / (1 - beta1**step)).div_((second / (1 - beta2**step)).sqrt_().add_(group["eps"]))
        if not sides or step < group["precondition_frequency"]:
            return adam
        shampoo = multiply(first, [state.get(f"root_{side}") for side in range(gradients.dim() - 1)])
        return shampoo * (norms(adam) / norms(shampoo).clamp(min=torch.finfo(shampoo.dtype).tiny))


def inverse_power(matrices: Tensor, power: float, ridge: float) -> Tensor:
    """(A + ridge I)^-power (B, d, d) of positive semidefinite matrices A (B, d, d).

    Eigenvalues that rounding made negative are first lifted to 0, all by the same amount.
    """
    values, vectors = eigh(matrices)
    values = values - values[:, :1].clamp(max=0) + ridge
    return (vectors * values.pow(-power)[:, None]) @ vectors.mT


def norms(x: Tensor) -> Tensor:
    """Frobenius norm of each tensor of a stack (B, ...) -> (B, 1, ...)."""
    return vector_norm(x, dim=tuple(range(1, x.dim())), keepdim=True)

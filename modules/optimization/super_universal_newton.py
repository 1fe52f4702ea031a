"""The super-universal Newton method: gradient regularisation by a power of the gradient's norm."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

from compendium.errors import UserError
from modules.optimization.second_order import RidgeNewton


class SuperUniversalNewton(RidgeNewton):
    """Newton steps with a ridge that is a power of the gradient's norm:

        x_(k+1) = x_k - (B + lambda I)^-1 g,   lambda = H |g|^alpha
        taken where   <g_(k+1), x_k - x_(k+1)> >= |g_(k+1)|^2 / (4 lambda);   then H <- H / 4, otherwise 4 H

    Doikov, Mishchenko and Nesterov 2024, "Super-Universal Regularized Newton Method", Algorithm 2, as in the code of
    Semenov et al. 2025, whose baseline it is.

    Args:
        params: as in `SearchedOptimizer`.
        scale: the first H, 1.
        scale_min: H is at least this; 1e-5 there.
        alpha: from 2/3 to 1; 1 there.
        curvature: what B is, see `SearchedOptimizer`.
        tries: steps tried at most.
        largest: most weights.
        lr: 1.

    Raises:
        UserError: see `SearchedOptimizer`, and alpha outside of (0, 1].
    """

    papers = ("semenov2025gradient",)
    tightens = 4.0

    def __init__(
        self,
        params: Iterable[Any],
        scale: float = 1.0,
        scale_min: float = 1e-5,
        alpha: float = 1.0,
        curvature: str = "hessian",
        tries: int = 40,
        largest: int = 5000,
        lr: float = 1.0,
    ) -> None:
        if not 0 < alpha <= 1:
            raise UserError(f"optimizer.alpha={alpha}: it lies in (0, 1].")
        super().__init__(params, scale, scale_min, curvature, tries, largest, lr)
        self.alpha = alpha

    def ridge(self, slope: Tensor, number: float) -> Tensor:
        return number * vector_norm(slope) ** self.alpha

    def keeps(self, fall: Tensor, slope: Tensor, step: Tensor, promised: Tensor) -> Tensor:
        return -(slope @ step) >= slope.square().sum() / (4 * promised)

"""Newton's method with gradient regularisation, whose radius follows the gradient-normalized smoothness."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor
from torch.linalg import vector_norm

from modules.optimization.second_order import RidgeNewton


class GradientNormalizedNewton(RidgeNewton):
    """Newton steps of length gamma at most, with an exact or an approximate Hessian B:

        x_(k+1) = x_k - (B + |g| / gamma I)^-1 g
        taken where   f(x_k) - f(x_(k+1)) >= gamma / (8 |g|) |g_(k+1)|^2;   then gamma <- 2 gamma, otherwise gamma / 2

    gamma estimates the gradient-normalized smoothness at x: the largest radius of a ball in which g + B h is the
    gradient up to a share of |g|. Nothing of the class of f goes in.

    Semenov, Jaggi and Doikov 2025, "Gradient-Normalized Smoothness for Optimization with Approximate Hessians",
    Algorithm 1, with the adaptive search of the authors' code.

    Deviations: (1) norms are Euclidean; (2) a step that has not been taken after `tries` of them leaves the weights
    alone, where the code takes the last one; (3) a matrix without a Cholesky root halves gamma; there it ends the step.

    Args:
        params: as in `SearchedOptimizer`.
        gamma: the first radius, 1 as in the code.
        gamma_min: after a step gamma is at least this; 1e-9 there.
        curvature: what B is, see `SearchedOptimizer`.
        tries: steps tried at most.
        largest: most weights.
        lr: 1; gamma is the step's length.

    Raises:
        UserError: see `SearchedOptimizer`.
    """

    papers = ("semenov2025gradient",)
    tightens = 0.5

    def __init__(
        self,
        params: Iterable[Any],
        gamma: float = 1.0,
        gamma_min: float = 1e-9,
        curvature: str = "hessian",
        tries: int = 40,
        largest: int = 5000,
        lr: float = 1.0,
    ) -> None:
        super().__init__(params, gamma, gamma_min, curvature, tries, largest, lr)

    def ridge(self, slope: Tensor, number: float) -> Tensor:
        return vector_norm(slope) / number

    def keeps(self, fall: Tensor, slope: Tensor, step: Tensor, promised: Tensor) -> Tensor:
        return fall >= slope.square().sum() / (8 * promised)

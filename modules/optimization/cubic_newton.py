"""Cubically regularised Newton steps."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from modules.optimization.second_order import SearchedOptimizer


class CubicNewton(SearchedOptimizer):
    """The step that minimises the second-order model with a cubic term, M the searched number:

        m(h) = <g, h> + 1/2 <B h, h> + M / 6 |h|^3,   h = -(B + M r / 2 I)^-1 g   with   r = |h|
        taken where   f(x + h) <= f(x) + m(h);   then M <- M / 2, otherwise 2 M

    r is found by bisection on the eigenvalues of B, to the last bit that helps. The hard case, g orthogonal to the
    eigenvector of a least eigenvalue below 0, keeps the solution of the others.

    Nesterov and Polyak 2006, "Cubic regularization of Newton method and its global performance", with the search of
    the code of Semenov et al. 2025, whose baseline it is.

    Args:
        params: as in `SearchedOptimizer`.
        scale: the first M, 1.
        scale_min: M is at least this; 1e-5 in the code.
        curvature: what B is, see `SearchedOptimizer`.
        tries: steps tried at most.
        largest: most weights.
        lr: 1.

    Raises:
        UserError: see `SearchedOptimizer`.
    """

    papers = ("semenov2025gradient",)
    tightens = 2.0

    def __init__(
        self,
        params: Iterable[Any],
        scale: float = 1.0,
        scale_min: float = 1e-5,
        curvature: str = "hessian",
        tries: int = 40,
        largest: int = 5000,
        lr: float = 1.0,
    ) -> None:
        super().__init__(params, scale, scale_min, curvature, tries, largest, lr)

    def step_from(self, slope, matrix, number):
        values, vectors = torch.linalg.eigh(matrix)
        turned = vectors.T @ slope
        half = number / 2

        def length(radius: Tensor) -> Tensor:
            return (turned / (values + half * radius)).norm()

        tiny = torch.finfo(slope.dtype).tiny
        low = (-values[0] / half).clamp(min=tiny)
        high = low + 1
        while length(high) > high:
            high = 2 * high
        for _ in range(100):
            middle = (low + high) / 2
            if middle in (low, high):
                break
            low, high = (middle, high) if length(middle) > middle else (low, middle)
        step = vectors @ (-turned / (values + half * high))
        model = slope @ step + 0.5 * step @ (matrix @ step) + number / 6 * step.norm() ** 3
        return step, -model

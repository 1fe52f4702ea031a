"""Gradient descent whose step is searched."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from modules.optimization.second_order import SearchedOptimizer


class SearchedGradient(SearchedOptimizer):
    """Gradient descent that searches its smoothness L, with room above and below:

        x_(k+1) = x_k - g / L
        taken where   f(x_(k+1)) <= f(x_k) - |g|^2 / (2 L);   then L <- L / 2, otherwise 2 L

    Nesterov 2013, "Gradient methods for minimizing composite functions", section 3, without a composite part: the
    gradient method that Semenov et al. 2025 compare with.

    Args:
        params: as in `SearchedOptimizer`; of any number.
        scale: the first L, 1.
        scale_min: L is at least this; 1e-5 in the code of Semenov et al.
        tries: steps tried at most.
        lr: 1.

    Raises:
        UserError: a value out of range.
    """

    papers = ("semenov2025gradient",)
    tightens = 2.0

    def __init__(
        self, params: Iterable[Any], scale: float = 1.0, scale_min: float = 1e-5, tries: int = 40, lr: float = 1.0
    ) -> None:
        super().__init__(params, scale, scale_min, "hessian", tries, largest=10**12, lr=lr)

    def matrix(self, evaluate: Callable[[], Tensor]) -> Tensor:
        return torch.empty(0)

    def step_from(self, slope, matrix, number):
        return -slope / number, slope.square().sum() / (2 * number)

"""Bayesian optimisation: expected improvement by a Gaussian process."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.uncertainty.processes import likeliest
from modules.uncertainty.sequential import ExpectedImprovement


class EIProcess(ExpectedImprovement):
    """Expected improvement with mean and variance of a Gaussian process of the acquired points (Jones et al. 1998).

    The process, its kernel and its noise are `modules.uncertainty.gaussian_process`'s, found anew at each acquisition.

    Args:
        spec: vectors with a real response.
        restarts: of the optimizer of the marginal likelihood, at least 0.
        parts: the arguments of `SequentialSearch`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], restarts: int = 2, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if restarts < 0:
            raise UserError(f"model.restarts={restarts}: at least 0.")
        self.restarts = restarts

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return likeliest(*self.measured(), self.restarts).moments(x)

"""Measurements as rewards: how well a record explains what was seen."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.sources.measured import Measured


class LogLikelihood:
    """ln p(y | x) = -|y - A x|^2 / (2 noise^2) up to a constant, for records x (B, D).

    As the reward of `guidance=reward` at scale 1 it is diffusion posterior sampling (Chung et al. 2023).

    Args:
        problem: config of `datamodules.sources.measured.Measured`: A, y and the noise.

    Raises:
        UserError: a problem of another kind.
    """

    def __init__(self, problem: Mapping[str, Any]) -> None:
        measured = instantiate(problem, where="problem")
        if not isinstance(measured, Measured):
            raise UserError("the problem is no measurement.", "data=measured, and ${data} as the problem")
        self.law = measured.prior()
        self.operator, self.noise, self.y = measured.operator, measured.noise, measured.measurement(self.law)

    def __call__(self, x: Tensor) -> Tensor:
        return -(self.y.to(x) - x @ self.operator.to(x).T).square().sum(1) / (2 * self.noise**2)

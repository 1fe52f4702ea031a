"""Annealed Langevin dynamics: the sampler of noise-conditional score networks."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class AnnealedLangevin(Sampler):
    """Langevin steps at each noise level, from the highest to the lowest, without a step of the flow between two.

        x <- x + e / 2 score_t(x) + sqrt(e) z,   e = size sigma_t^2,   `corrections` times at each t

    x is scaled by alpha_t / alpha_s when the level changes. Song and Ermon 2019, "Generative Modeling by Estimating
    Gradients of the Data Distribution", Algorithm 1, for any Gaussian path.

    Args:
        corrections: T, steps per level, at least 1. Default 100, there.
        size: e / sigma_t^2, above 0. Default 0.2, there: 2e-5 at the lowest level, 0.01.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: no step, a size that is not positive.
    """

    def __init__(self, corrections: int = 100, size: float = 0.2, **parts: Any) -> None:
        super().__init__(**parts)
        if corrections < 1:
            raise UserError(f"sampler.corrections={corrections}: at least 1.")
        if size <= 0:
            raise UserError(f"sampler.size={size}: above 0.")
        self.corrections, self.size = corrections, size

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        x = field.path.alpha(t) / field.path.alpha(s) * x
        return langevin(field, x, t, self.size * field.path.sigma(t).square(), self.corrections)


def langevin(field: Field, x: Tensor, t: Tensor, size: Tensor, steps: int) -> Tensor:
    """x (B, ...) after Langevin steps x + size / 2 score_t(x) + sqrt(size) z on the law at the time t."""
    for _ in range(steps):
        x = x + 0.5 * size * field.score(x, t) + size.sqrt() * torch.randn_like(x)
    return x

"""Heun's method under disturbance: what errors on the way do to draws."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.samplers.heun import Heun


class Disturbed(Heun):
    """Adds level * sigma(s) * N(0, I) to x_s before each step, which then takes x_s for a record of the time s.

    Unlike churn, which turns the time back with the noise that it adds, this is an error, in proportion to the noise
    that there is: a measure of how much of it a model forgives.

    Xu et al. 2023, "PFGM++: Unlocking the Potential of Physics-Inspired Generative Models", section 5.2.

    Args:
        level: alpha, at least 0; the paper looks at up to 0.2, in 35 evaluations. Default 0: no error.
        parts: the arguments of `Heun`.

    Raises:
        UserError: a negative level.
    """

    order = None
    papers = ("xu2023pfgm",)

    def __init__(self, level: float = 0.0, **parts: Any) -> None:
        super().__init__(**parts)
        if level < 0:
            raise UserError(f"sampler.level={level}: at least 0.")
        self.level = level

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        x = x + self.level * field.path.sigma(s) * torch.randn_like(x)
        return super().step(field, x, s, t, memory)

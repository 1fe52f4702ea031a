"""The reverse SDE by Euler and Maruyama."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class ReverseSDE(Sampler):
    """Euler and Maruyama's method for the family of reverse processes that all have the path's marginals.

        dx = (f x - (1 + level^2) / 2 g^2 score) dt + level g dW     backwards in time

    level = 1 is Anderson's reverse of the forward process, level = 0 the probability flow.

    Song et al. 2021, "Score-Based Generative Modeling through Stochastic Differential Equations", equations 6 and 13;
    Huang et al. 2021, "A Variational Perspective on Diffusion-Based Generative Models", for the family.

    Args:
        level: of the noise, at least 0.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a negative level.
    """

    def __init__(self, level: float = 1.0, **parts: Any) -> None:
        super().__init__(**parts)
        if level < 0:
            raise UserError(f"sampler.level={level}: the noise is at least 0.")
        self.level = level

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        rate, squared = field.path.diffusion(s)
        drift = rate * x - 0.5 * (1 + self.level**2) * squared * field.score(x, s)
        noise = self.level * (squared * (s - t)).sqrt() * torch.randn_like(x)
        return x + (t - s) * drift + noise

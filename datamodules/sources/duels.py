"""A bandit whose preferences no reward explains: answers can beat each other in circles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import World
from datamodules.sources.bandit import Bandit


class Duels(Bandit):
    """`Bandit` with preferences that are not Bradley and Terry's.

        P(a is preferred to b | x) = sigma((r(x, a) - r(x, b)) / temperature + cycles * C(x, a, b))

    with C(x, a, b) = -C(x, b, a) ~ N(0, 1). The world says what is preferred; its rewards are only a part of that.
    What is recorded more often depends on mu; `sharpness` and `tilt` change mu, and nothing else of the same seed.

    Args:
        cycles: above 0; 1: circles are as common as rewards are wide.
        parts: see `Bandit`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, cycles: float = 1.0, **parts: Any) -> None:
        super().__init__(**parts)
        if cycles <= 0:
            raise UserError(f"data.cycles={cycles}: above 0.", "without cycles: data=bandit")
        self.cycles = cycles

    def world(self) -> World:
        world = super().world()
        draw = generator(self.seed, "duels")
        one = torch.randn(*world.reward.shape, self.answers, generator=draw, dtype=torch.float64)
        circles = (one - one.mT) / 2**0.5
        gap = (world.reward[:, :, None] - world.reward[:, None]) / self.temperature
        return replace(world, preference=torch.sigmoid(gap + self.cycles * circles))

    def preferred(self, world: World, prompt: Tensor, pair: Tensor) -> Tensor:
        assert world.preference is not None
        return world.preference[prompt, pair[:, 0], pair[:, 1]]

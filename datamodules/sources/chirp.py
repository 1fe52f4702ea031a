"""Numbers with a real response whose mean is known, and changes ever faster."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


class Chirp(Source):
    """Numbers x, uniform in [-1, 1], and a response around a wave that becomes shorter:

        y = sin(2 pi turns u^power) + noise e,      u = (x + 1) / 2,  e from N(0, 1)

    A smooth model fits the left and not the right, whatever the number of records: it is misspecified there. Columns:
    `x` (N, 1), `y` (N,), and `mean` (N,), the sine alone. The least risk in squares is noise^2.

    Args:
        turns: whole waves.
        power: how fast they become shorter; 1: all are as long.
        noise: standard deviation of the response.
        train: records.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        turns: float = 8.0,
        power: float = 3.0,
        noise: float = 0.1,
        train: int = 500,
        validation: int = 200,
        test: int = 2_000,
        seed: int = 0,
    ) -> None:
        if turns < 0 or power < 1 or noise < 0:
            raise UserError(f"data.turns={turns} data.power={power} data.noise={noise}: at least 0, 1 and 0.")
        self.sizes = split_sizes(train, validation, test)
        self.turns, self.power, self.noise, self.seed = turns, power, noise, seed

    def wave(self, x: Tensor) -> Tensor:
        """x (...) -> the mean of the response (...)."""
        return torch.sin(2 * math.pi * self.turns * ((x + 1) / 2) ** self.power)

    def load(self) -> Records:
        draw = generator(self.seed, "chirp")
        total = sum(self.sizes.values())
        x = (2 * torch.rand(total, 1, generator=draw, dtype=torch.float64) - 1).float()
        mean = self.wave(x[:, 0].double())
        y = mean + self.noise * torch.randn(total, generator=draw, dtype=torch.float64)
        spec = DataSpec("chirp", "vector", (1,), target="real", features=("x",), bounds=(-1.0, 1.0))
        columns = {"x": x, "y": y.float(), "mean": mean.float()}
        return Records(spec, columns, splits=consecutive(self.sizes))

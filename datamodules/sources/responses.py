"""Records with two responses each, drawn from a law that is known."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


class TwoResponses(Source):
    """Numbers x, uniform in [-1, 1], and two independent responses in {0, 1} to each, whose law changes ever faster:

        p(y = 1 | x) = 1/2 + amplitude / 2 * sin(2 pi turns u^power),      u = (x + 1) / 2

    A network learns the slow part on the left and not the fast one on the right, where what it does not know looks like
    noise of the response. Columns: `x` (N, 1), `y` and `other`, the two responses int64 (N,), and `law`, the true
    probabilities (N, 2).

    Args:
        turns: whole waves.
        power: how fast they become faster; 1: all are as long.
        amplitude: of the waves, in [0, 1].
        train: records.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        turns: float = 20.0,
        power: float = 3.0,
        amplitude: float = 0.9,
        train: int = 10_000,
        validation: int = 2_000,
        test: int = 10_000,
        seed: int = 0,
    ) -> None:
        if turns < 0 or power < 1 or not 0 <= amplitude <= 1:
            raise UserError(
                f"data.turns={turns} data.power={power} data.amplitude={amplitude}: at least 0, at least 1, in [0, 1]."
            )
        self.sizes = split_sizes(train, validation, test)
        self.turns, self.power, self.amplitude, self.seed = turns, power, amplitude, seed

    def probability(self, x: Tensor) -> Tensor:
        """x (...) -> p(y = 1 | x) (...)."""
        return 0.5 + self.amplitude / 2 * torch.sin(2 * math.pi * self.turns * ((x + 1) / 2) ** self.power)

    def load(self) -> Records:
        draw = generator(self.seed, "two responses")
        total = sum(self.sizes.values())
        x = (2 * torch.rand(total, 1, generator=draw, dtype=torch.float64) - 1).float()
        p = self.probability(x[:, 0].double())
        y, other = (torch.rand(2, total, generator=draw, dtype=torch.float64) < p).long()
        spec = DataSpec(
            "two_responses", "vector", (1,), target="class", classes=("0", "1"), features=("x",), bounds=(-1.0, 1.0)
        )
        law = torch.stack([1 - p, p], 1).float()
        columns = {"x": x, "y": y, "other": other, "law": law}
        return Records(spec, columns, splits=consecutive(self.sizes))

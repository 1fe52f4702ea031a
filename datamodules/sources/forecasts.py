"""Forecasts of a binary event whose calibration is known."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")


class Forecasts(Source):
    """A probability that was forecast as `x` (N, 1), and whether the event happened as `y`.

        f ~ law,   P(y = 1 | f) = f + bias,   x = f + perturbation (2 y - 1), clipped to [0, 1]

    Without a perturbation the distance to calibration (Błasiok et al. 2023), the least mean change of the forecasts
    that makes them calibrated, is |bias|: adding the bias does it, and no change with a smaller mean gives the mean
    forecast the event's frequency. Expected calibration error and smooth ECE of the law are |bias| too. A perturbation
    moves each forecast by at most that much, and the distance with it; but it lets the forecast tell the outcome, and
    so moves forecasts of `half` from an expected calibration error of 0 to one of 1 / 2.

    Args:
        law: of f: `uniform` on [0, 1], shortened at one end by |bias| so that probabilities stay within it; `half`:
            always 1 / 2; `tenths`: uniform over 0, 0.1, ..., 1, without those that the bias moves out of [0, 1].
        bias: how much likelier the event is than forecast; of size at most 1 / 2.
        perturbation: how far a forecast is moved towards what then happens; at least 0.
        train, validation, test: records per split.
        seed: what the records are a function of.

    Raises:
        UserError: an unknown law, a bias or perturbation out of range, a size below 1.
    """

    LAWS = ("uniform", "half", "tenths")

    def __init__(
        self,
        law: str = "uniform",
        bias: float = 0.0,
        perturbation: float = 0.0,
        train: int = 5_000,
        validation: int = 1_000,
        test: int = 10_000,
        seed: int = 0,
    ) -> None:
        self.law = known(law, self.LAWS, "data.law", "law")
        if not -0.5 <= bias <= 0.5:
            raise UserError(f"data.bias={bias}: it lies in [-0.5, 0.5].")
        if not 0 <= perturbation <= 1:
            raise UserError(f"data.perturbation={perturbation}: it lies in [0, 1].")
        self.sizes = split_sizes(train, validation, test)
        self.bias, self.perturbation, self.seed = bias, perturbation, seed

    def load(self) -> Records:
        drawn = [self.draw(size, generator(self.seed, "forecasts", split)) for split, size in self.sizes.items()]
        x, y = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        spec = DataSpec(
            name=f"{self.law} forecasts",
            kind="vector",
            shape=(1,),
            target="class",
            classes=("no", "yes"),
            features=("forecast",),
            bounds=(0.0, 1.0),
        )
        return Records(spec, {"x": x[:, None].float(), "y": y.long()}, splits=consecutive(self.sizes))

    def draw(self, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """n forecasts and outcomes (n,), float64."""
        u, v = torch.rand(2, n, generator=draw, dtype=torch.float64)
        low, high = max(0.0, -self.bias), 1 - max(0.0, self.bias)
        if self.law == "half":
            f = torch.full_like(u, 0.5)
        elif self.law == "uniform":
            f = low + (high - low) * u
        else:
            ticks = torch.arange(11, dtype=torch.float64) / 10
            ticks = ticks[(ticks >= low - 1e-9) & (ticks <= high + 1e-9)]
            f = ticks[(u * len(ticks)).long()]
        y = (v < f + self.bias).double()
        return (f + self.perturbation * (2 * y - 1)).clamp(0, 1), y

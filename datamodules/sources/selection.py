"""Regressions with known laws, from which records with large targets are to be selected."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")

MOST_BY_SETTING = {
    "linear": 1,
    "heavy_noise": 1,
    "dense": 1,
    "heavy_features": 1,
    "signs": 4,
    "curved": 4,
    "signs_uneven": 4,
    "curved_uneven": 4,
}
"""Features that a setting names, and so needs."""


class SelectionRegression(Source):
    """y = mu(x) + s(x) e: the simulations of Bai and Jin 2024, section 5. Thresholds are at 0, the median.

    With x ~ N(0, I), after Liang et al. 2024:

    - `linear` (their setting 1): mu = x_1 + x_21 + x_41 + ..., s = noise, e ~ N(0, 1).
    - `heavy_noise` (2): the same with e ~ t_3.
    - `dense` (3): mu = mean of x, s = 1 / D.
    - `heavy_features` (4): `linear` with x ~ multivariate t_3.

    With x uniform on [-1, 1]^D and e ~ N(0, 1), after Jin and Candès 2023, where
    a = [x_1 x_2 > 0, x_4 > 1/2] (x_4 + 1/4) + [x_1 x_2 <= 0, x_4 < -1/2] (x_4 - 1/4) and
    b = 2 (x_1 x_2 + x_3^2 + exp(x_4 - 1) - 1):

    - `signs` (1): mu = a, s = noise.
    - `curved` (2): mu = b, s = 1.5 noise.
    - `signs_uneven` (3): mu = a, s = noise (5.5 - |mu|) / 2.
    - `curved_uneven` (4): mu = b, s = noise (5.5 - |mu|) / 2.

    Args:
        setting: one of these.
        dimensions: D; 100, as in the authors' simulation of `linear` (20 for the others of Jin and Candès).
        noise: 3, as there.
        train: records to fit candidates on; 100, as there.
        validation: records to validate on.
        test: records that problems are made of: 200 problems of 100 labelled records and a pool of 100.
        seed: what the records are a function of.

    Raises:
        UserError: an unknown setting, too few dimensions, noise below 0, a size below 1.
    """

    def __init__(
        self,
        setting: str = "linear",
        dimensions: int = 100,
        noise: float = 3.0,
        train: int = 100,
        validation: int = 200,
        test: int = 40_000,
        seed: int = 0,
    ) -> None:
        self.setting = known(setting, MOST_BY_SETTING, "data.setting", "setting")
        if dimensions < MOST_BY_SETTING[setting]:
            raise UserError(f"data.dimensions={dimensions}: {setting} needs {MOST_BY_SETTING[setting]} at least.")
        if noise < 0:
            raise UserError(f"data.noise={noise}: it is a standard deviation, 0 at least.")
        self.sizes = split_sizes(train, validation, test)
        self.dimensions, self.noise, self.seed = dimensions, noise, seed

    def load(self) -> Records:
        drawn = [self.draw(size, generator(self.seed, "selection", split)) for split, size in self.sizes.items()]
        x, y = (torch.cat(parts) for parts in zip(*drawn, strict=True))
        spec = DataSpec(name=f"{self.setting} regression", kind="vector", shape=(self.dimensions,), target="real")
        return Records(spec, {"x": x, "y": y}, splits=consecutive(self.sizes))

    def draw(self, n: int, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """n records (n, D) and targets (n,), float32."""
        jin = MOST_BY_SETTING[self.setting] == 4
        x = 2 * torch.rand(n, self.dimensions, generator=draw) - 1 if jin else self.normal(n, draw)
        mean, spread = self.law(x)
        e = torch.randn(n, generator=draw)
        if self.setting == "heavy_noise":
            e = e / self.root_chi(n, draw)
        return x, mean + spread * e

    def normal(self, n: int, draw: torch.Generator) -> Tensor:
        """n records (n, D) from N(0, I), or from a multivariate t with 3 degrees of freedom."""
        x = torch.randn(n, self.dimensions, generator=draw)
        return x / self.root_chi(n, draw)[:, None] if self.setting == "heavy_features" else x

    @staticmethod
    def root_chi(n: int, draw: torch.Generator) -> Tensor:
        """(chi^2_3 / 3)^(1/2), (n,): what a normal is divided by to be t_3."""
        return torch.randn(n, 3, generator=draw).square().mean(1).sqrt()

    def law(self, x: Tensor) -> tuple[Tensor, Tensor | float]:
        """Records (n, D) -> mu and s, (n,) or one for all."""
        if self.setting == "dense":
            return x.mean(1), 1 / self.dimensions
        if self.setting in ("linear", "heavy_noise", "heavy_features"):
            return x[:, ::20].sum(1), self.noise
        product, fourth = x[:, 0] * x[:, 1], x[:, 3]
        if self.setting.startswith("signs"):
            above = ((product > 0) & (fourth > 0.5)) * (fourth + 0.25)
            below = ((product <= 0) & (fourth < -0.5)) * (fourth - 0.25)
            mean = above + below
        else:
            mean = 2 * (product + x[:, 2].square() + (fourth - 1).exp() - 1)
        if self.setting.endswith("uneven"):
            return mean, self.noise * (5.5 - mean.abs()) / 2
        return mean, self.noise * (1.5 if self.setting == "curved" else 1.0)

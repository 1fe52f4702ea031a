"""Records on curves and surfaces: laws without a density."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


def circle(u: Tensor) -> Tensor:
    """The unit circle, uniform: u (n, 2) in [0, 1) -> (n, 2)."""
    angle = 2 * math.pi * u[:, 0]
    return torch.stack([angle.cos(), angle.sin()], 1)


def swiss_roll(u: Tensor) -> Tensor:
    """A spiral of one and a half turns with a height, as scikit-learn's `make_swiss_roll`, over 10: (n, 3)."""
    angle = 1.5 * math.pi * (1 + 2 * u[:, 0])
    return torch.stack([angle * angle.cos(), 21 * u[:, 1] - 10.5, angle * angle.sin()], 1) / 10


def spiral(u: Tensor) -> Tensor:
    """The curve of the swiss roll, without its height: (n, 2)."""
    return swiss_roll(u)[:, [0, 2]]


def torus(u: Tensor) -> Tensor:
    """The torus of radii 1 and 0.4, uniform in both angles: (n, 3)."""
    along, around = (2 * math.pi * u).unbind(1)
    radius = 1 + 0.4 * around.cos()
    return torch.stack([radius * along.cos(), radius * along.sin(), 0.4 * around.sin()], 1)


SHAPES = {"circle": circle, "spiral": spiral, "swiss_roll": swiss_roll, "torus": torus}


class Manifold(Source):
    """Draws from a law on a curve or a surface, embedded in more dimensions by a random isometry.

    Such a law is singular: it has no density, hence the records have no `truth`.

    Args:
        shape: one of `SHAPES`: circle, spiral, swiss_roll, torus.
        dimensions: of the ambient space; None: those in which the shape is written down, without the isometry.
        noise: standard deviation of isotropic noise around the set; 0 leaves the law singular.
        train: records to train on.
        validation: records to validate on.
        test: records to test on.
        seed: what records and isometry are a function of; not the run's seed.

    Raises:
        UserError: an unknown shape, too few dimensions, a split without a record, negative noise.
    """

    def __init__(
        self,
        shape: str = "swiss_roll",
        dimensions: int | None = None,
        noise: float = 0.0,
        train: int = 10_000,
        validation: int = 2_000,
        test: int = 5_000,
        seed: int = 0,
    ) -> None:
        if shape not in SHAPES:
            raise UserError(f"data.shape={shape} is unknown.", f"there are: {', '.join(SHAPES)}")
        written = SHAPES[shape](torch.zeros(1, 2)).shape[1]
        if dimensions is not None and dimensions < written:
            raise UserError(f"data.dimensions={dimensions}: a {shape} needs at least {written}.")
        self.sizes = split_sizes(train, validation, test)
        if noise < 0:
            raise UserError(f"data.noise={noise}: a standard deviation is at least 0.")
        self.shape, self.dimensions, self.noise, self.seed = shape, dimensions, noise, seed

    def load(self) -> Records:
        x = torch.cat([self.draw(size, split) for split, size in self.sizes.items()])
        spec = DataSpec(name=self.shape, kind="vector", shape=(x.shape[1],))
        return Records(spec, {"x": x}, splits=consecutive(self.sizes))

    def draw(self, n: int, split: str) -> Tensor:
        """n records (n, D) of a split, which does not depend on the sizes of the others."""
        random = generator(self.seed, "manifold", split)
        x = SHAPES[self.shape](torch.rand(n, 2, generator=random, dtype=torch.float64))
        if self.dimensions is not None:
            shuffle = generator(self.seed, "manifold", "isometry")
            columns = torch.randn(self.dimensions, x.shape[1], generator=shuffle, dtype=torch.float64)
            x = x @ torch.linalg.qr(columns).Q.T
        return (x + self.noise * torch.randn(x.shape, generator=random, dtype=torch.float64)).float()

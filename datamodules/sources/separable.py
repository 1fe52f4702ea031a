"""Two classes that a plane through 0 separates, by a margin that is known."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import known
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")


class Separable(Source):
    """Records x of two classes with y_i x_i . u >= margin, y = -1 for class 0 and 1 for class 1, and |x_i| <= 1.

    `ball`      x = y s u + sqrt(1 - s^2) (common e + (1 - common) r d): u and e random unit vectors, s even on
                [margin, 2 margin], r even on [0, 1], d a random unit vector for each record, e and d orthogonal to u;
                record 0 of each split has s = margin. With a large `common` most of a record is what all share.
    `lopsided`  in the plane, one record (1/2, -1) of class 1 and (-1/2, -1) for all others: the data on which the batch
                perceptron takes a number of steps that grows with the number of records (Tyurin 2024, theorem 5.1).
                Its margin is 1/2 and its radius sqrt(5) / 2.

    Present it with `datamodule.scale=none`, which leaves the margin as it is.

    Args:
        law: `ball` or `lopsided`.
        dimensions: of a ball, at least 2.
        margin: of a ball, above 0 and at most 1/2.
        common: of a ball, from 0 to 1.
        rare: share of class 1 in each split of a ball, above 0 and below 1; at least one record is of each class.
        train: records, at least 2 as in each split.
        validation: records.
        test: records.
        seed: what a ball's records are a function of.

    Raises:
        UserError: an unknown law, or a value out of range.
    """

    def __init__(
        self,
        law: str = "ball",
        dimensions: int = 20,
        margin: float = 0.1,
        common: float = 0.8,
        rare: float = 0.5,
        train: int = 400,
        validation: int = 100,
        test: int = 100,
        seed: int = 0,
    ) -> None:
        self.law = known(law, ("ball", "lopsided"), "data.law", "law")
        if dimensions < 2 or not 0 < margin <= 0.5 or not 0 <= common <= 1 or not 0 < rare < 1:
            raise UserError(
                f"data.dimensions={dimensions} data.margin={margin} data.common={common} data.rare={rare}: "
                "at least 2, above 0 and at most 1/2, from 0 to 1, and between 0 and 1."
            )
        self.sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        if min(self.sizes.values()) < 2:
            sizes = " ".join(f"data.{name}={size}" for name, size in self.sizes.items())
            raise UserError(f"{sizes}: each is at least 2.")
        self.dimensions = dimensions if law == "ball" else 2
        self.margin, self.common, self.rare, self.seed = margin, common, rare, seed

    def load(self) -> Records:
        draw = generator(self.seed, "separable")
        make = self.ball if self.law == "ball" else self.lopsided
        axes = torch.randn(self.dimensions, 2, generator=draw, dtype=torch.float64)
        plane, shared = torch.linalg.qr(axes)[0].T
        parts = [make(size, plane, shared, draw) for size in self.sizes.values()]
        ends = torch.tensor([0, *self.sizes.values()]).cumsum(0).tolist()
        splits = {name: torch.arange(ends[place], ends[place + 1]) for place, name in enumerate(SPLITS)}
        spec = DataSpec(
            name="separable", kind="vector", shape=(self.dimensions,), target="class", classes=("minus", "plus")
        )
        x, y = (torch.cat(columns) for columns in zip(*parts, strict=True))
        return Records(spec, {"x": x.float(), "y": y}, splits=splits)

    def ball(self, size: int, plane: Tensor, shared: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Records (size, D) and their classes (size,); the first ones are of class 1."""
        y = (torch.arange(size) < min(max(round(self.rare * size), 1), size - 1)).long()
        along, length = torch.rand(2, size, generator=draw, dtype=torch.float64)
        along = self.margin * (1 + along)
        along[0] = self.margin
        own = torch.randn(size, self.dimensions, generator=draw, dtype=torch.float64)
        own = torch.nn.functional.normalize(own - own @ plane[:, None] * plane, dim=1)
        aside = self.common * shared + (1 - self.common) * length[:, None] * own
        return ((2 * y - 1) * along)[:, None] * plane + (1 - along.square()).sqrt()[:, None] * aside, y

    def lopsided(self, size: int, plane: Tensor, shared: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """Records (size, 2) and their classes (size,)."""
        x, y = torch.tensor([[-0.5, -1.0]]).double().repeat(size, 1), torch.zeros(size, dtype=torch.long)
        x[0, 0], y[0] = 0.5, 1
        return x, y

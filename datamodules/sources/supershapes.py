"""Pictures of shapes from the superformula, with points on their boundary."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive
from datamodules.spec import DataSpec

DARK, BRIGHT = 0.3, 0.7
"""Brightness of background and shape, before noise."""

MIDDLE = (3.0, 6.0, 6.0)
"""Medians of the exponents: with three lobes a triangle with round corners."""


class Supershapes(Source):
    """Filled shapes whose boundary follows the superformula of Gielis 2003,

        r(t) = (|cos(m t / 4)|^n2 + |sin(m t / 4)|^n3)^(-1 / n1),      ln n_i from N(ln middle_i, curvature^2)

    times what makes its largest radius uniform in `radius`, around a centre that is off the picture's by up to `shift`
    pixels. Point p of P lies on the boundary at t = 2 pi p / P, so that points mean the same in each shape. Pictures
    are anti-aliased, blurred by a Gaussian and noisy, each to a degree of its own: so the same shape is told with
    more or less certainty. In test the logarithms of exponents are spread `unusual` times as far.

    Columns: `x` float (N, 1, side, side) in [0, 1], and `points` float (N, P, 2), to the right and down, -1 and 1 at
    the edges.

    Adams and Elhabian 2023 have such shapes in three dimensions; how theirs are drawn was not at hand, and numbers are
    ours.

    Args:
        points: P.
        side: of a picture, in pixels.
        lobes: m.
        curvature: standard deviation of the exponents' logarithms.
        unusual: how many times as far exponents are spread in test; 1: as in training.
        radius: range of the largest radius, in pixels.
        shift: of the centre to each side at most, in pixels.
        blur: range of the standard deviation of the blur, in pixels, above 0.
        noise: range of the standard deviation of the noise, in units of brightness.
        train: number of training pictures.
        validation: of validation pictures.
        test: of test pictures.
        seed: what pictures are a function of.

    Raises:
        UserError: a value out of range, a shape that does not fit into the picture.
    """

    def __init__(
        self,
        points: int = 32,
        side: int = 32,
        lobes: int = 3,
        curvature: float = 0.3,
        unusual: float = 2.0,
        radius: Sequence[float] = (7.0, 12.0),
        shift: float = 2.0,
        blur: Sequence[float] = (0.5, 2.0),
        noise: Sequence[float] = (0.05, 0.3),
        train: int = 500,
        validation: int = 200,
        test: int = 500,
        seed: int = 0,
    ) -> None:
        self.sizes = {"train": train, "validation": validation, "test": test}
        for name, count in (*self.sizes.items(), ("points", points), ("side", side), ("lobes", lobes)):
            if count < 1:
                raise UserError(f"data.{name}={count}: at least 1.")
        for name, value in (("curvature", curvature), ("unusual", unusual), ("shift", shift)):
            if value < 0:
                raise UserError(f"data.{name}={value}: at least 0.")
        for name, pair, least in (("radius", radius, 1e-6), ("blur", blur, 1e-6), ("noise", noise, 0.0)):
            if len(pair) != 2 or not least <= pair[0] <= pair[1]:
                raise UserError(f"data.{name}={list(pair)}: the smallest and the largest, above 0; noise may be 0.")
        if radius[1] + shift > side / 2:
            raise UserError(f"data.radius={list(radius)} and data.shift={shift} leave a picture of side {side}.")
        self.points, self.side, self.lobes, self.curvature, self.unusual = points, side, lobes, curvature, unusual
        self.radius, self.shift, self.blur, self.noise = tuple(radius), shift, tuple(blur), tuple(noise)
        self.seed = seed

    def load(self) -> Records:
        parts = [self.drawn(split, count) for split, count in self.sizes.items()]
        columns = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
        shape = (1, self.side, self.side)
        spec = DataSpec("supershapes", "image", shape, target="points", points=self.points, bounds=(0.0, 1.0))
        return Records(spec, columns, splits=consecutive(self.sizes))

    def drawn(self, split: str, count: int) -> dict[str, Tensor]:
        """The columns of a split."""
        stream = generator(self.seed, "supershapes", split)

        def uniform(pair: Sequence[float], *shape: int) -> Tensor:
            return pair[0] + (pair[1] - pair[0]) * torch.rand(count, *shape, generator=stream)

        spread = self.curvature * (self.unusual if split == "test" else 1.0)
        exponents = torch.tensor(MIDDLE) * (spread * torch.randn(count, 3, generator=stream)).exp()
        centre = self.side / 2 + uniform((-self.shift, self.shift), 2)
        dense = torch.arange(360) * (2 * math.pi / 360)
        size = uniform(self.radius) / superformula(dense, exponents, self.lobes).amax(1)
        angle = torch.arange(self.points) * (2 * math.pi / self.points)
        radii = size[:, None] * superformula(angle, exponents, self.lobes)
        places = centre[:, None] + radii[:, :, None] * torch.stack([angle.cos(), angle.sin()], 1)

        pixel = torch.arange(self.side) + 0.5
        right, down = (pixel - centre[:, :1])[:, None, :], (pixel - centre[:, 1:])[:, :, None]
        boundary = superformula(torch.atan2(down, right).flatten(1) % (2 * math.pi), exponents, self.lobes)
        inside = size[:, None, None] * boundary.unflatten(1, (self.side, self.side)) - (right**2 + down**2).sqrt()
        picture = blurred((inside + 0.5).clamp(0, 1), uniform(self.blur))
        noise = uniform(self.noise)[:, None, None] * torch.randn(picture.shape, generator=stream)
        x = (DARK + (BRIGHT - DARK) * picture + noise).clamp(0, 1)
        return {"x": x[:, None], "points": 2 * places / self.side - 1}


def superformula(angle: Tensor, exponents: Tensor, lobes: int) -> Tensor:
    """Angles (A,) or (N, A) in radians and exponents n1, n2, n3 (N, 3) -> radii (N, A)."""
    n1, n2, n3 = exponents.T[:, :, None]
    turn = angle * lobes / 4
    return (turn.cos().abs() ** n2 + turn.sin().abs() ** n3) ** (-1 / n1)


def blurred(pictures: Tensor, width: Tensor) -> Tensor:
    """Pictures (N, S, S) -> the same, each blurred by a Gaussian of its own standard deviation (N,) in pixels."""
    place = torch.arange(pictures.shape[1])
    kernel = torch.exp(-((place[:, None] - place) ** 2) / (2 * width[:, None, None] ** 2))
    kernel = kernel / kernel.sum(2, keepdim=True)
    return kernel @ pictures @ kernel.mT

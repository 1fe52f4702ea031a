"""Pictures of grey shapes of which everything is known: the kind at every pixel, depth, instances and boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.datamodule import SPLITS
from datamodules.source import Records, Source
from datamodules.sources.checks import known
from datamodules.spec import DataSpec

CORNERS = {"disc": 0, "square": 4, "triangle": 3, "hexagon": 6}
"""Corners of a regular polygon by the name of its kind; 0 for a circle."""

BACKGROUND = "background"
DARK, FAR, NEAR = 0.2, 0.2, 1.0
"""Brightness of the background, and the range of the shapes' inverse depth; the background has FAR / 2."""

ORDER = SPLITS[::-1]
"""Test first, so that the row numbers of what is evaluated do not depend on how much there is to train on."""

PIXELS = 5_000_000
"""Of all shapes of the pictures that are drawn at once: 20 MB per column."""

WAVES = 4
"""Sines and cosines of the angle that a wobbling boundary is made of, beside its mean."""


class Shapes(Source):
    """One to several filled shapes of random kind, place, size, angle and depth; the nearer one hides the farther one.

    A shape is brighter the nearer it is and the higher its kind stands in the list, by equal or other shares. Pictures
    are anti-aliased, blurred and noisy as asked; what is said of them is exact, except for the wobble of `segments`.

    Columns, beside `x` float (N, 1, side, side) in [0, 1]:

    - `segments` int64 (N, side, side): 0 for the background, or 1 + the kind.
    - `depth` float (N, side, side): inverse depth in units of 1 / `disparity`: uniform in [0.2, 1] for a shape, 0.1 for
      the background.
    - `offset` float (N, 2, side, side): from the middle of a pixel to the centre of its shape, down and to the right,
      in pixels; 0 on the background.
    - `boxes` float (N, objects, 4): left, top, right and bottom edge of the pixels of a shape, hidden ones included.
    - `kinds` int64 (N, objects): which kind, from 0; -1 where there is no shape, or one that is more than half hidden.

    With `wobble`, the boundary in `segments` is that of an annotator whose hand is not steady: at each angle the radius
    is off by a normal number of pixels with that standard deviation, smooth in the angle and new for each shape. So
    near a boundary even the best forecast is no certainty. All splits have such labels.

    Args:
        train: number of training pictures.
        validation: of validation pictures.
        test: of test pictures.
        side: of a picture, in pixels.
        kinds: from `CORNERS`; their order gives the classes.
        objects: fewest and most shapes in a picture.
        radii: smallest and largest distance from centre to corner, in pixels.
        contrast: how much brighter than the background the brightest shape is, above 0 and at most 0.8.
        tint: share of that brightness that is a matter of kind, the rest is depth; in [0, 1].
        blur: standard deviation of a Gaussian blur, in pixels; 0 for none.
        noise: standard deviation of noise in each pixel, in units of brightness.
        wobble: standard deviation of the boundary in `segments`, in pixels.
        disparity: inverse depth is multiplied by it, such as by focal length times baseline.
        seed: what pictures are functions of.

    Raises:
        UserError: an unknown kind, a range or number out of range.
    """

    def __init__(
        self,
        train: int = 300,
        validation: int = 100,
        test: int = 200,
        side: int = 32,
        kinds: Sequence[str] = ("disc", "square", "triangle"),
        objects: Sequence[int] = (1, 3),
        radii: Sequence[float] = (4.0, 8.0),
        contrast: float = 0.6,
        tint: float = 0.5,
        blur: float = 0.0,
        noise: float = 0.05,
        wobble: float = 0.0,
        disparity: float = 1.0,
        seed: int = 0,
    ) -> None:
        self.counts = dict(zip(SPLITS, (train, validation, test), strict=True))
        for name, value in (*self.counts.items(), ("side", side)):
            if value < 1:
                raise UserError(f"data.{name}={value}: at least 1.")
        self.kinds = tuple(known(name, CORNERS, "data.kinds", "kind of shape") for name in kinds)
        for name, pair in (("objects", objects), ("radii", radii)):
            if len(pair) != 2 or not 0 < pair[0] <= pair[1]:
                raise UserError(f"data.{name}={list(pair)}: the smallest and the largest, above 0.")
        if not 0 < contrast <= 1 - DARK or not 0 <= tint <= 1:
            raise UserError(f"data.contrast={contrast} data.tint={tint}: above 0 up to {1 - DARK}, and from 0 to 1.")
        for name, value in (("blur", blur), ("noise", noise), ("wobble", wobble)):
            if value < 0:
                raise UserError(f"data.{name}={value}: at least 0.")
        if disparity <= 0:
            raise UserError(f"data.disparity={disparity}: above 0.")
        self.side, self.objects, self.radii = side, tuple(objects), tuple(radii)
        self.contrast, self.tint, self.blur, self.noise, self.wobble = contrast, tint, blur, noise, wobble
        self.disparity, self.seed = disparity, seed

    def load(self) -> Records:
        columns = columns_of(self)
        rows = torch.arange(len(columns["x"])).split([self.counts[split] for split in ORDER])
        spec = DataSpec(
            "shapes",
            "image",
            (1, self.side, self.side),
            target="mask",
            classes=(BACKGROUND, *self.kinds),
            bounds=(0.0, 1.0),
        )
        return Records(spec, dict(columns), splits=dict(zip(ORDER, rows, strict=True)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Shapes) and vars(self) == vars(other)

    def __hash__(self) -> int:
        return hash(tuple(map(str, vars(self).values())))

    def drawn(self, split: str) -> dict[str, Tensor]:
        """The columns of a split."""
        count, most = self.counts[split], self.objects[1]
        stream = generator(self.seed, "shapes", split)

        def uniform(low: float, high: float) -> Tensor:
            return low + (high - low) * torch.rand(count, most, generator=stream)

        number = torch.randint(self.objects[0], most + 1, (count, 1), generator=stream)
        kind = torch.randint(len(self.kinds), (count, most), generator=stream)
        radius = uniform(*self.radii)
        centre = torch.stack([radius / 2 + (self.side - radius) * uniform(0, 1) for _ in range(2)], 2)
        angle = uniform(0, 2 * math.pi)
        # Sorted from far to near, so that each shape is painted over those before it.
        inverse = uniform(FAR, NEAR).sort(1).values
        there = torch.rand(count, most, generator=stream).argsort(1) < number
        hands = torch.randn(count, most, 1 + 2 * WAVES, generator=stream)

        at_once = max(1, PIXELS // (most * self.side**2))
        shapes = [part.split(at_once) for part in (kind, radius, centre, angle, inverse, there, hands)]
        painted = [self.painted(*parts, stream) for parts in zip(*shapes, strict=True)]
        return {name: torch.cat([part[name] for part in painted]) for name in painted[0]}

    def painted(
        self,
        kind: Tensor,
        radius: Tensor,
        centre: Tensor,
        angle: Tensor,
        inverse: Tensor,
        there: Tensor,
        hands: Tensor,
        stream: torch.Generator,
    ) -> dict[str, Tensor]:
        """Shapes (N, objects, ...), from far to near -> the columns of their pictures."""
        count, most = kind.shape
        place = torch.arange(self.side) + 0.5
        offset = torch.stack(torch.meshgrid(place, place, indexing="ij")) - centre[..., None, None]
        distance, phi = offset.norm(dim=2), torch.atan2(offset[:, :, 0], offset[:, :, 1])
        corners = torch.tensor([CORNERS[name] for name in self.kinds])[kind]
        edge = radius[..., None, None] * outline(phi - angle[..., None, None], corners[..., None, None])
        wave = self.wobble * waves(phi, hands)
        inside = (distance < edge) & there[..., None, None]
        said = (distance < edge + wave) & there[..., None, None]
        cover = (edge - distance + 0.5).clamp(0, 1) * there[..., None, None]

        rank = (kind + 1) / len(self.kinds)
        bright = (1 - self.tint) * inverse / NEAR + self.tint * rank
        x = torch.full((count, self.side, self.side), DARK)
        segments = torch.zeros(count, self.side, self.side, dtype=torch.int64)
        depth = torch.full_like(x, FAR / 2)
        toward = torch.zeros(count, 2, self.side, self.side)
        owner = torch.full_like(segments, -1)
        for k in range(most):
            lit = (DARK + self.contrast * bright[:, k])[:, None, None]
            x = torch.lerp(x, lit.expand_as(x), cover[:, k])
            segments = torch.where(said[:, k], kind[:, k, None, None] + 1, segments)
            depth = torch.where(inside[:, k], inverse[:, k, None, None], depth)
            toward = torch.where(inside[:, k, None], -offset[:, k], toward)
            owner = torch.where(inside[:, k], k, owner)
        whole = inside.sum((2, 3))
        seen = torch.stack([(owner == k).sum((1, 2)) for k in range(most)], 1)
        x = blurred(x[:, None], self.blur) + self.noise * torch.randn(x[:, None].shape, generator=stream)
        return {
            "x": x.clamp(0, 1),
            "segments": segments,
            "depth": depth * self.disparity,
            "offset": toward,
            "boxes": extents(inside),
            "kinds": torch.where(there & (seen > 0) & (2 * seen >= whole), kind, -1),
        }


@lru_cache(maxsize=1)
def columns_of(source: Shapes) -> dict[str, Tensor]:
    """All columns, drawn once where many runs of one comparison are planned."""
    drawn = [source.drawn(split) for split in ORDER]
    return {name: torch.cat([part[name] for part in drawn]) for name in drawn[0]}


def outline(phi: Tensor, corners: Tensor) -> Tensor:
    """Angles and numbers of corners, 0 for a circle -> distance of the outline of the regular polygon within the unit
    circle from its centre: cos(pi / n) / cos(phi mod (2 pi / n) - pi / n).
    """
    half = math.pi / corners.clamp(min=1)
    polygon = half.cos() / (phi.remainder(2 * half) - half).cos()
    return torch.where(corners > 0, polygon, torch.ones_like(polygon))


def waves(phi: Tensor, factors: Tensor) -> Tensor:
    """Angles (..., H, W) and standard normal factors (..., 1 + 2 WAVES) -> a normal number of variance 1 at each angle.

    (a_0 + sum_m a_m cos(m phi) + b_m sin(m phi)) / sqrt(1 + WAVES), m = 1, ..., WAVES
    """
    mean, cosines, sines = factors.split([1, WAVES, WAVES], -1)
    wave = mean[..., None].expand_as(phi).clone()
    for m in range(WAVES):
        wave += cosines[..., m, None, None] * ((m + 1) * phi).cos() + sines[..., m, None, None] * ((m + 1) * phi).sin()
    return wave / math.sqrt(1 + WAVES)


def blurred(x: Tensor, deviation: float) -> Tensor:
    """Pictures (N, 1, H, W) after a Gaussian blur, reflected at the border."""
    if deviation == 0:
        return x
    reach = min(math.ceil(3 * deviation), x.shape[-1] - 1, x.shape[-2] - 1)
    weights = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / deviation).square())
    weights = (weights / weights.sum()).view(1, 1, 1, -1)
    padded = F.pad(x, (reach,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(padded, weights), weights.transpose(2, 3))


def extents(inside: Tensor) -> Tensor:
    """Masks bool (N, K, H, W) -> left, top, right and bottom edge of their pixels, float (N, K, 4); 0 for none."""
    edges = []
    for dim in (2, 3):  # over the rows: what is left of columns, and the other way round
        line = inside.any(dim)
        first = line.to(torch.int8).argmax(2)
        last = line.shape[2] - line.flip(2).to(torch.int8).argmax(2)
        edges.append((first, torch.where(line.any(2), last, 0)))
    (left, right), (top, bottom) = edges
    return torch.stack([left, top, right, bottom], 2).float()

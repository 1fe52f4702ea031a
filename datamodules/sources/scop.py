"""Pictures of pairs of objects whose relation in space is beyond doubt."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from typing import Any

import torch

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source

Box = tuple[float, float, float, float]
"""(left, top, width, height) in pixels, from the upper left corner."""


class SpatialPairs(Source):
    """SCOP: training pictures that hold a pair of objects with a clear relation, captioned by the boxes of the two.

    A pair is kept where all of these hold of its boxes, of areas a and b and diagonals:

        significance   a + b >= `significance` area of the picture
        distinction    the two are of different names
        clarity        distance of the centres <= `clarity` times the shorter diagonal
        overlap        area in common < `overlap` min(a, b)
        balance        min(a, b) >= `balance` max(a, b)

    Training pictures without such a pair are left out. The captions of the others become "a NAME left of a NAME", the
    relation of the centres along the axis on which the two boxes overlap less, in shares of the shorter side; "left of
    and above", in either order, where they overlap by less than a third on both. Which of the two is named first, and
    the pair of pictures with several, are chosen at random. Validation and test stay as they are.

    Zhang et al. 2025, "CoMPaSS: Enhancing Spatial Understanding in Text-to-Image Diffusion Models"; rules, thresholds
    and relations as in the authors' code. Deviations: (1) one caption for each picture, chosen once, where the paper
    has all pairs and both directions; (2) "left of" for "to the left of"; (3) no smallest area of 32 x 32 pixels.

    Args:
        source: config of a source of pictures whose objects are known, such as `data=scenes`.
        significance: tau_v. Default 0.2, there.
        clarity: tau_u. Default 2, there.
        overlap: tau_o. Default 0.3, there.
        balance: tau_s. Default 0.5, there.
        seed: of what is chosen at random.

    Raises:
        UserError: a source without objects, a threshold out of range, no pair that is kept.
    """

    def __init__(
        self,
        source: Mapping[str, Any] | Source,
        significance: float = 0.2,
        clarity: float = 2.0,
        overlap: float = 0.3,
        balance: float = 0.5,
        seed: int = 0,
    ) -> None:
        for name, value in (("significance", significance), ("overlap", overlap), ("balance", balance)):
            if not 0 <= value <= 1:
                raise UserError(f"data.{name}={value}: a share, from 0 to 1.")
        if clarity <= 0:
            raise UserError(f"data.clarity={clarity}: a number of diagonals, above 0.")
        self.source: Source = instantiate(source, where="data.source") if isinstance(source, Mapping) else source
        self.significance, self.clarity, self.overlap, self.balance = significance, clarity, overlap, balance
        self.seed = seed

    def load(self) -> Records:
        records = self.source.load()
        captions = records.captions
        if captions is None or not captions.objects:
            raise UserError(f"data.source: the objects of '{records.spec.name}' are not known.", "data.source=scenes")
        area = float(records.spec.shape[1] * records.spec.shape[2])
        texts, kept, chance = list(captions.texts), [], generator(self.seed, "scop")
        train = records.splits.get("train", torch.arange(len(texts)))
        for row in train.tolist():
            pairs = [pair for pair in combinations(captions.objects[row], 2) if self.clear(*pair, area)]
            picks = torch.randint(1 << 20, (3,), generator=chance).tolist()
            if pairs:
                one, other = pairs[picks[0] % len(pairs)][:: 1 if picks[1] % 2 else -1]
                said = relations(one[1], other[1])
                texts[row] = f"a {one[0]} {said[picks[2] % len(said)]} a {other[0]}"
                kept.append(row)
        if not kept:
            raise UserError(f"no training picture of '{records.spec.name}' holds a clear pair.", "loosen data.clarity")
        splits = {**records.splits, "train": torch.tensor(kept)}
        return replace(records, splits=splits, captions=replace(captions, texts=texts))

    def clear(self, one: tuple[str, Box], other: tuple[str, Box], area: float) -> bool:
        """Whether two objects make a pair in a picture of that area."""
        a, b = one[1][2] * one[1][3], other[1][2] * other[1][3]
        diagonal = min(math.hypot(*one[1][2:]), math.hypot(*other[1][2:]))
        across, down = (shared(one[1], other[1], axis) for axis in (0, 1))
        return (
            a + b >= self.significance * area
            and one[0] != other[0]
            and math.dist(centre(one[1]), centre(other[1])) <= self.clarity * diagonal
            and (max(across, 0) * max(down, 0) < self.overlap * min(a, b) or min(across, down) < 0)
            and min(a, b) >= self.balance * max(a, b)
        )


def relations(one: Box, other: Box) -> list[str]:
    """How the first box lies to the second, in all the ways to say it."""
    (x, y), (to_x, to_y) = centre(one), centre(other)
    horizontal = "left of" if x < to_x else "right of"
    vertical = "above" if y < to_y else "below"
    across, down = (max(shared(one, other, axis), 0) / min(one[2 + axis], other[2 + axis]) for axis in (0, 1))
    if across < 1 / 3 and down < 1 / 3:
        return [f"{horizontal} and {vertical}", f"{vertical} and {horizontal}"]
    return [horizontal if across < down else vertical]


def centre(box: Box) -> tuple[float, float]:
    """The middle of a box, (column, row)."""
    return box[0] + box[2] / 2, box[1] + box[3] / 2


def shared(one: Box, other: Box, axis: int) -> float:
    """Pixels that two boxes share across (0) or down (1); below 0 those that lie between them."""
    ends = (box[axis] + box[2 + axis] for box in (one, other))
    return min(ends) - max(one[axis], other[axis])

"""Pictures whose brightness is what they are of."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits


class Shades(Source):
    """Digits on backgrounds from nearly black to nearly white; the class says how bright, not which digit.

    x = b + (1 - `room`) digit with b uniform in the k-th of `shades` equal parts of [0, `room`], in class k. What the
    class leaves open of b, and the digit, are for the model to draw.

    Args:
        shades: classes, at least 2.
        room: the brightest background, in (0, 1); the rest of the range is the digit's.
        seed: of the backgrounds.

    Raises:
        UserError: fewer than two shades, a room outside.
    """

    def __init__(self, shades: int = 4, room: float = 0.8, seed: int = 0) -> None:
        if shades < 2:
            raise UserError(f"data.shades={shades}: at least 2.")
        if not 0 < room < 1:
            raise UserError(f"data.room={room}: between 0 and 1.")
        self.shades, self.room, self.seed = shades, room, seed

    def load(self) -> Records:
        digits = Digits().load()
        pictures = digits.columns["x"]
        stream = generator(self.seed, "shades")
        y = torch.randint(self.shades, (len(pictures),), generator=stream)
        background = self.room * (y + torch.rand(len(pictures), generator=stream)) / self.shades
        spec = digits.spec.but(name="shades", classes=tuple(str(shade) for shade in range(self.shades)), levels=None)
        return Records(spec, {"x": background[:, None, None, None] + (1 - self.room) * pictures, "y": y})

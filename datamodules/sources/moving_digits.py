"""Short clips of digits that move."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits


class MovingDigits(Source):
    """Clips of one digit of 8 x 8 pixels that moves over a black ground in a straight line, and off nothing.

    Frames are the channels of a picture. A digit begins and ends at even places of the square; in between it is at the
    nearest pixel. A small stand-in for Moving MNIST (Srivastava et al. 2015).

    Args:
        side: of a frame in pixels, at least 8.
        frames: per clip, at least 1.
        clips: how many.
        seed: of digits and ways.

    Raises:
        UserError: a side below 8, no frame, no clip.
    """

    def __init__(self, side: int = 16, frames: int = 4, clips: int = 3000, seed: int = 0) -> None:
        if side < 8 or frames < 1 or clips < 1:
            raise UserError(f"data.side={side} data.frames={frames} data.clips={clips}: at least 8, 1 and 1.")
        self.side, self.frames, self.clips, self.seed = side, frames, clips, seed

    def load(self) -> Records:
        digits = Digits().load()
        every = torch.arange(len(digits.columns["y"]))
        pictures, labels = digits.columns["x"][every], digits.columns["y"][every]
        draw = generator(self.seed, "moving digits")
        chosen = torch.randint(len(pictures), (self.clips,), generator=draw)
        ends = torch.rand(2, self.clips, 2, generator=draw) * (self.side - 8)
        time = torch.linspace(0, 1, self.frames)[:, None, None]
        corner = ((1 - time) * ends[0] + time * ends[1]).round().long()  # (frames, clips, 2)
        x = torch.zeros(self.clips, self.frames, self.side, self.side)
        inside = torch.arange(8)
        clip, frame = torch.arange(self.clips)[:, None, None, None], torch.arange(self.frames)[:, None, None]
        rows = corner[..., 0].T[..., None, None] + inside[:, None]
        columns = corner[..., 1].T[..., None, None] + inside
        x[clip, frame, rows, columns] = pictures[chosen].expand(-1, self.frames, -1, -1)
        spec = digits.spec.but(name="moving digits", shape=(self.frames, self.side, self.side))
        return Records(spec, {"x": x, "y": labels[chosen]})

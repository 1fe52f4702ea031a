"""Encoded pictures as a column: decoded by whole batches, on threads, in memory where they fit."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.extras import require
from datamodules.source import Column

Encoded = Path | bytes
MODES = {1: "L", 3: "RGB"}
CHUNK = 1024


def channels_checked(channels: int, where: str = "data.channels") -> int:
    """1 (grey) or 3 (red, green, blue).

    Raises:
        UserError: another number.
    """
    if channels not in MODES:
        raise UserError(f"{where}={channels}: pictures are read with 1 channel (grey) or 3 (red, green, blue).")
    return channels


def opened(encoded: Encoded) -> Any:
    """The picture as Pillow opens it, not yet decoded: size and mode are known."""
    from PIL import Image

    return Image.open(io.BytesIO(encoded) if isinstance(encoded, bytes) else encoded)


def decode(encoded: Encoded, size: int | None, channels: int) -> np.ndarray:
    """One picture as uint8 (C, H, W).

    Turned as its EXIF says, its shorter side resized to `size` (bilinear, antialiased), and the centre square cut out;
    with `size` None it is left as large as it is. Of 16-bit grey the upper 8 bits are kept.

    Raises:
        OSError: it does not decode.
    """
    from PIL import Image, ImageOps

    with opened(encoded) as file:
        file.load()
        image = ImageOps.exif_transpose(file)
    if image.mode.startswith("I"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    image = image.convert(MODES[channels])
    if size is not None:
        image = ImageOps.fit(image, (size, size), Image.Resampling.BILINEAR)
    pixels = np.asarray(image)
    return np.array(pixels[None] if channels == 1 else pixels.transpose(2, 0, 1), order="C")


class Pictures:
    """A `Column` of pictures that decodes the rows that are asked for.

    Args:
        fetch: row numbers -> encoded pictures, in the same order.
        name: row number -> the picture's name, for messages.
        count: number of pictures.
        size: side of the square to which they are resized and cut; None: all have the same size as the first.
        channels: 1 or 3; None: as the first picture.

    Raises:
        UserError: the first picture does not decode.
    """

    def __init__(
        self,
        fetch: Callable[[list[int]], list[Encoded]],
        name: Callable[[int], str],
        count: int,
        size: int | None,
        channels: int | None,
    ) -> None:
        require("PIL", extra="vision", needed_by="decoding pictures")
        self.fetch, self.name, self.count, self.size = fetch, name, count, size
        try:
            with opened(fetch([0])[0]) as first:
                mode, height, width = first.mode, first.height, first.width
        except (OSError, ValueError) as error:
            raise self._broken([(0, error)]) from None
        grey = mode in ("1", "L", "LA", "I", "F") or mode.startswith("I;")
        self.channels = channels if channels is not None else (1 if grey else 3)
        height, width = (size, size) if size is not None else (height, width)
        self.shape = (self.channels, height, width)

    def __len__(self) -> int:
        return self.count

    def bytes(self, rows: Tensor) -> Tensor:
        """Rows (B,) -> uint8 (B, C, H, W).

        Raises:
            UserError: pictures that do not decode, or that differ in size.
        """
        numbers = rows.tolist()
        with ThreadPoolExecutor(min(16, os.cpu_count() or 1)) as pool:
            decoded = list(pool.map(partial(_attempt, size=self.size, channels=self.channels), self.fetch(numbers)))
        failures = [(row, item) for row, item in zip(numbers, decoded, strict=True) if isinstance(item, Exception)]
        if failures:
            raise self._broken(failures)
        arrays = [item for item in decoded if isinstance(item, np.ndarray)]
        for row, item in zip(numbers, arrays, strict=True):
            if item.shape != self.shape:
                (_, height, width), (_, first_height, first_width) = item.shape, self.shape
                raise UserError(
                    f"{self.name(row)} has {height} x {width} pixels, not {first_height} x {first_width} as the first.",
                    f"Bring all to one size: data.size={min(self.shape[1:])}",
                )
        return torch.from_numpy(np.stack(arrays))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows (B,) -> float32 (B, C, H, W) in [0, 1]."""
        return self.bytes(rows.cpu()).float() / 255

    def in_memory(self, gigabytes: float) -> Column:
        """All pictures as one float32 tensor if that takes at most so many GB (2^30 bytes), else this column itself.

        Raises:
            UserError: pictures that do not decode; all of them are counted.
        """
        shape = (self.count, *self.shape)
        if 4 * np.prod(shape, dtype=np.float64) > gigabytes * 2**30:
            return self
        pictures = torch.empty(shape)
        failures: list[tuple[int, Exception]] = []
        for rows in torch.arange(self.count).split(CHUNK):
            try:
                pictures[rows] = self[rows]
            except BrokenPictures as broken:
                failures += broken.failures
        if failures:
            raise self._broken(failures)
        return pictures

    def _broken(self, failures: list[tuple[int, Exception]]) -> BrokenPictures:
        row, error = failures[0]
        if len(failures) == 1:
            count = "1 picture does not decode"
        else:
            count = f"{len(failures)} pictures do not decode, the first is"
        named = [self.name(row) for row, _ in failures[:10]]
        return BrokenPictures(
            f"{count}: {self.name(row)} ({str(error).splitlines()[0] or type(error).__name__}).",
            "Remove or replace: " + ", ".join(named) + (", ..." if len(failures) > 10 else ""),
            failures,
        )


class BrokenPictures(UserError):
    """Pictures that do not decode, with their rows."""

    def __init__(self, what: str, mend: str, failures: list[tuple[int, Exception]]) -> None:
        super().__init__(what, mend)
        self.failures = failures


def _attempt(encoded: Encoded, size: int | None, channels: int) -> np.ndarray | Exception:
    try:
        return decode(encoded, size, channels)
    except (OSError, ValueError, SyntaxError) as error:  # Pillow raises SyntaxError for broken PNG chunks
        return error

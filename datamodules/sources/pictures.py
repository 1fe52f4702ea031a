"""Patches of scikit-image's own pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.extras import require
from datamodules.source import Records, Source
from datamodules.sources.checks import known, several_classes
from datamodules.sources.decoding import channels_checked, decode
from datamodules.spec import DataSpec

# Those photographs and micrographs that lie inside scikit-image's wheel: no download, at 0.24 and later alike.
FILES = {
    "astronaut": "astronaut.png",
    "brick": "brick.png",
    "camera": "camera.png",
    "chelsea": "chelsea.png",
    "coffee": "coffee.png",
    "coins": "coins.png",
    "grass": "grass.png",
    "gravel": "gravel.png",
    "hubble_deep_field": "hubble_deep_field.jpg",
    "immunohistochemistry": "ihc.png",
    "moon": "moon.png",
    "page": "page.png",
    "retina": "retina.jpg",
    "rocket": "rocket.jpg",
    "text": "text.png",
}
DEFAULT = ("astronaut", "brick", "camera", "chelsea", "coffee", "grass", "gravel", "immunohistochemistry", "rocket")
BANDS = {"train": (0.0, 0.7), "validation": (0.7, 0.8), "test": (0.8, 1.0)}


class PicturePatches(Source):
    """Square patches of photographs; the class is which picture a patch was cut from.

    Patches that do not overlap (`stride` >= `patch`) share no pixel, and the DataModule splits them at random. With
    overlap, the split is by bands of rows: the upper 70 % of each picture trains, the next 10 % validates, the rest
    tests, and patches across a border are left out, so that no test pixel was seen in training either.

    Args:
        patch: side of a patch, in pixels.
        stride: distance of neighbouring patches, in pixels; None: `patch`.
        channels: 1 (grey) or 3 (red, green, blue).
        pictures: names of at least two pictures, from `FILES`.

    Raises:
        UserError: an unknown picture, a patch larger than a picture, a stride below 1, no scikit-image.
    """

    def __init__(
        self, patch: int = 16, stride: int | None = None, channels: int = 1, pictures: Sequence[str] = DEFAULT
    ) -> None:
        self.patch = patch
        self.stride = patch if stride is None else stride
        if patch < 1 or self.stride < 1:
            raise UserError(f"data.patch={patch} data.stride={stride}: both are at least 1 pixel.")
        self.channels = channels_checked(channels)
        self.pictures = tuple(known(name, FILES, "data.pictures", "picture") for name in pictures)
        several_classes(self.pictures, "data.pictures")

    def load(self) -> Records:
        folder = Path(str(require("skimage.data", extra="vision", needed_by="data=pictures").__file__)).parent
        patches, labels, fractions = [], [], []
        for index, name in enumerate(self.pictures):
            picture = torch.from_numpy(decode(folder / FILES[name], None, self.channels))
            height = picture.shape[1]
            if self.patch > min(picture.shape[1:]):
                raise UserError(
                    f"data.patch={self.patch}: '{name}' has only {height} x {picture.shape[2]} pixels.",
                    "Take smaller patches, or leave the picture out with data.pictures=[...].",
                )
            cut = picture.unfold(1, self.patch, self.stride).unfold(2, self.patch, self.stride)  # (C, R, Q, H, W)
            patches.append(cut.permute(1, 2, 0, 3, 4).flatten(0, 1))
            labels += [index] * len(patches[-1])
            top = torch.arange(cut.shape[1]).repeat_interleave(cut.shape[2]) * self.stride
            fractions.append(torch.stack([top, top + self.patch], 1) / height)
        spec = DataSpec(
            name="pictures",
            kind="image",
            shape=(self.channels, self.patch, self.patch),
            target="class",
            classes=self.pictures,
            levels=256,
            bounds=(0.0, 1.0),
        )
        splits = bands(torch.cat(fractions)) if self.stride < self.patch else {}
        y = torch.from_numpy(np.asarray(labels, dtype=np.int64))
        return Records(spec, {"x": torch.cat(patches).float() / 255, "y": y}, splits=splits)


def bands(extent: Tensor) -> dict[str, Tensor]:
    """Extents (N, 2), top and bottom edge as fractions of the height -> rows that lie within each split's band."""
    return {
        split: ((extent[:, 0] >= low) & (extent[:, 1] <= high)).nonzero()[:, 0] for split, (low, high) in BANDS.items()
    }

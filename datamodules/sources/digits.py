"""scikit-learn's handwritten digits."""

from __future__ import annotations

import torch

from datamodules.source import Records, Source
from datamodules.spec import DataSpec


class Digits(Source):
    """1797 pictures of 8 x 8 pixels with 17 grey levels, in ten classes (Alpaydin and Kaynak 1998, UCI)."""

    def load(self) -> Records:
        from sklearn.datasets import load_digits

        data = load_digits()
        pictures = torch.from_numpy(data.images).float().unsqueeze(1) / 16
        spec = DataSpec(
            name="digits",
            kind="image",
            shape=(1, 8, 8),
            target="class",
            classes=tuple(str(digit) for digit in range(10)),
            levels=17,
            bounds=(0.0, 1.0),
        )
        return Records(spec, {"x": pictures, "y": torch.from_numpy(data.target).long()})

"""Pictures in black and white."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.source import Records, Source

DIGITS = {"_target_": "datamodules.sources.digits.Digits"}


class Binarised(Source):
    """Another source's pictures, with every value 1 from a threshold on and 0 below it.

    The map is fixed (static binarisation), so that a likelihood is one of given records. Published figures on binarised
    MNIST are mostly of draws x ~ Bernoulli(grey) instead (Salakhutdinov and Murray 2008) and do not compare.

    Args:
        source: the pictures, or their config.
        threshold: in (0, 1]; grey values lie in [0, 1].

    Raises:
        UserError: a threshold outside, a source of no pictures, or one that is read from disk piece by piece.
    """

    def __init__(self, source: Source | Mapping[str, Any] = DIGITS, threshold: float = 0.5) -> None:
        if not 0 < threshold <= 1:
            raise UserError(f"data.threshold={threshold}: it lies above 0 and is at most 1.")
        self.source: Source = instantiate(source, where="data.source") if isinstance(source, Mapping) else source
        self.threshold = threshold

    def load(self) -> Records:
        records = self.source.load()
        x = records.columns.get("x")
        if records.spec.kind != "image" or not isinstance(x, Tensor):
            raise UserError(f"data.source: '{records.spec.name}' is no set of pictures in memory.")
        spec = records.spec.but(name=f"binary {records.spec.name}", levels=2)
        return replace(records, spec=spec, columns={**records.columns, "x": (x >= self.threshold).float()})

"""Means of figures, some of which may be undefined."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import Tensor


def mean(values: Tensor) -> float:
    """The mean in float64, NaN of none."""
    return float(values.double().mean())


def known_mean(values: Sequence[float]) -> float:
    """The mean of those that are defined; NaN where none is."""
    known = [value for value in values if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan

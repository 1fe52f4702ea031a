"""How many draws leave the range of the data."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from callbacks.evaluation.samples import BesideRecords

ROUNDING = 1e-5
"""Share of the range by which a component may miss it: arithmetic in single precision."""


class Outside(BesideRecords):
    """`outside`: share of n draws with a component beyond the bounds of the data; draws that are not finite are.

    Args:
        n: number of draws; those of `Samples`, as far as they go.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 1000, **parts: Any) -> None:
        super().__init__(n, **parts)

    def misfit(self, method, spec):
        return None if spec.bounds is not None else "the data have no bounds"

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        low, high = data.spec.bounds
        room = ROUNDING * (high - low)
        inside = (drawn >= low - room) & (drawn <= high + room)
        return {"outside": 1 - float(inside.flatten(1).all(1).double().mean())}

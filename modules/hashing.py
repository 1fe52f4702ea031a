"""Numbers that look random and are functions of a record: they depend on no order, no batch and no process."""

from __future__ import annotations

from torch import Tensor

GOLDEN = -7046029254386353131
"""2^64 divided by the golden ratio, as a signed integer: the increment of splitmix64 (Steele et al. 2014)."""


def mixed(z: Tensor) -> Tensor:
    """The finaliser of splitmix64 on int64, whose products wrap around."""
    for shift, factor in ((30, -4658895280553007687), (27, -7723592293110705685)):
        z = (z ^ (z >> shift & (1 << 64 - shift) - 1)) * factor
    return z ^ (z >> 31 & (1 << 33) - 1)

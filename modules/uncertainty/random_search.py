"""Random search, which searches are measured by."""

from __future__ import annotations

from torch import Tensor

from modules.uncertainty.sequential import SequentialSearch


class RandomSearch(SequentialSearch):
    """Acquires points at random, all with the same probability.

    Args:
        spec: vectors with a real response.
        parts: the arguments of `SequentialSearch`.
    """

    def score(self, x: Tensor) -> Tensor:
        return self.draws(len(x))

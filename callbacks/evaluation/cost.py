"""What a draw costs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.samples import CHUNK, OfDraws, draws_of
from modules.capabilities import IteratedSampler


class Cost(OfDraws):
    """`function_evaluations`: evaluations of the network per draw, what papers call NFE.

    Where draws differ in their cost, it is the mean over one call of `sample`.

    Args:
        n: number of draws; those of `Samples`, as far as they go.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (IteratedSampler,)

    def __init__(self, n: int = CHUNK, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n

    def compute(self, method, data) -> Mapping[str, float]:
        draws_of(method, data, self.n)
        return self.on_rank_zero(lambda: {"function_evaluations": float(method.function_evaluations())})

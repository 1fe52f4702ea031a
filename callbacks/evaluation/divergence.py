"""How far a sampler's law is from the data's, in nats."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from callbacks.evaluation.density import law_of_x
from callbacks.evaluation.samples import BesideRecords
from callbacks.metrics.divergences import knn_kl
from compendium.seeding import generator

MOST_DIMENSIONS = 8
"""Above it neighbours are all about as far, and the estimate says little."""


class Divergence(BesideRecords):
    """Kullback-Leibler divergences between the data's law P and that of a Sampler's draws Q, by nearest neighbours.

    - `kl`: KL(P || Q), which punishes places that the sampler leaves out.
    - `reverse_kl`: KL(Q || P), which punishes draws where there are no data.

    Both in nats, by `callbacks.metrics.divergences.knn_kl`; unlike a likelihood they take any sampler, also one whose
    density nobody can compute. Where the law of the data is known, n exact records are drawn from it, with a fixed
    seed; else the first n of the split are taken.

    Args:
        n: number of draws and of records. 10000 leave an error of about 0.02 nats in two dimensions.
        k: which neighbour (Wang et al. 2009, section V: a few).
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 10_000, k: int = 5, **parts: Any) -> None:
        super().__init__(n, **parts)
        self.k = k

    def misfit(self, method, spec):
        if spec.kind == "vector" and spec.dimensions <= MOST_DIMENSIONS:
            return None
        return f"more than {MOST_DIMENSIONS} dimensions"

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        """The figures."""
        law = law_of_x(data, self.split)
        if law is not None:
            real = law.sample(self.n, generator(0, "divergence"))
        return {"kl": float(knn_kl(real, drawn, self.k)), "reverse_kl": float(knn_kl(drawn, real, self.k))}

"""Bounds on the likelihood of held-out records."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import LatentVariable


class Bound(Evaluation):
    """Figures of a LatentVariable on the first `limit` records of a split, in its order, nats per record.

    - `nll_bound`: -E log(1/k sum_j p(x|z_j) p(z_j) / q(z_j|x)), z_j ~ q(z|x): the importance weighted bound, at least
      the negative log-likelihood and nearer to it the larger k (Burda et al. 2016, Theorem 1). It is called a bound and
      not `nll`, so that nobody compares it with a likelihood that is exact.
    - `nll_elbo`: the same with k = 1, from the same draws: `reconstruction` - E log p(x|z) plus `rate`.
    - `rate`: E KL(q(z|x) | p(z)), what the code costs; 0 where the posterior has collapsed onto the prior.

    Draws depend on the seed of the data, the batch and the process: the number of processes moves the figures by
    their Monte Carlo error.

    Args:
        limit: number of records, None for all.
        k: importance samples, at least 1. Burda et al. take 5000; 256 leave about 0.1 nats on binary digits.
        chunk: importance samples at once, which bounds the memory.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: no importance sample.
    """

    capabilities = (LatentVariable,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, limit: int | None = 2000, k: int = 256, chunk: int = 16, **parts: Any) -> None:
        super().__init__(**parts)
        if k < 1 or chunk < 1:
            raise UserError(f"{self.name}.k={k} and {self.name}.chunk={chunk}: importance samples are at least 1.")
        self.limit, self.k, self.chunk = limit, k, chunk

    def start(self, method, data) -> None:
        self.data = data
        self.rows: list[torch.Tensor] = [torch.empty(0, 3, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        x = batch.x
        if self.limit is not None:
            x = x[(self.positions(self.data) < self.limit).to(x.device)]
            if not len(x):
                return
        with seeded(self.data.seed, "bound", self.batch_idx, self.data.share[0]):
            parts = [method.log_weights(x, min(self.chunk, self.k - done)) for done in range(0, self.k, self.chunk)]
        likelihood, rate = (torch.cat([precise(part) for part in both]) for both in zip(*parts, strict=True))
        bound = (likelihood - rate).logsumexp(0) - math.log(self.k)
        self.rows.append(torch.stack([-bound, -likelihood.mean(0), rate.mean(0)], 1).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        bound, reconstruction, rate = self.rows_of_all(torch.cat(self.rows)).mean(0).tolist()
        return {"nll_bound": bound, "nll_elbo": reconstruction + rate, "reconstruction": reconstruction, "rate": rate}

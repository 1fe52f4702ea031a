"""Likelihood of held-out records."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.densities import bits_per_dimension
from callbacks.metrics.precision import precise
from datamodules.batches import Unlabelled
from datamodules.datamodule import DataModule
from datamodules.source import Truth
from modules.capabilities import Density


class Likelihood(Evaluation):
    """Figures of a Density on the first `limit` records of a split, in its order.

    - `nll`: mean of -ln q(x), nats per record, of x as the method receives it.
    - `bits_per_dim`: see `callbacks.metrics.densities.bits_per_dimension`.
    - `kl`, `kl_se`: where the exact law p of x is known (see `law_of_x`): KL(p || q) estimated as the mean of
      ln p(x) - ln q(x), and its standard error, nats per record.

    Which records count does not depend on the number of processes: each takes those of its share that lie among the
    first `limit` of the split. A NaN log density makes the figures NaN.

    Args:
        limit: number of records, None for all. Default 2000: a likelihood that takes an ODE solve per batch stays
            affordable, and the standard error of `nll` is 2% of its standard deviation over records.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Density,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, limit: int | None = 2000, **parts: Any) -> None:
        super().__init__(**parts)
        self.limit = limit

    def start(self, method, data) -> None:
        self.data = data
        self.truth = law_of_x(data, self.split)
        self.log_q: list[torch.Tensor] = [torch.empty(0, dtype=torch.float64)]
        self.log_p: list[torch.Tensor] = [torch.empty(0, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        x = batch.x
        if self.limit is not None:
            kept = self.positions(self.data) < self.limit
            if not kept.any():
                return
            # The whole batch as it is, where it can be, so that other evaluations share what is asked of it.
            x = x if kept.all() else x[kept.to(x.device)]
        self.log_q.append(precise(self.ask(method, "log_prob", x)).cpu())
        if self.truth is not None:
            self.log_p.append(self.truth.log_prob(x.cpu()).double())

    def compute(self, method, data) -> Mapping[str, float]:
        log_q = self.rows_of_all(torch.cat(self.log_q))
        nll = float(-log_q.mean())
        figures = {"nll": nll, "bits_per_dim": bits_per_dimension(nll, data.spec)}
        if self.truth is not None:
            gap = self.rows_of_all(torch.cat(self.log_p)) - log_q
            figures |= {"kl": float(gap.mean()), "kl_se": float(gap.std() / len(gap) ** 0.5)}
        return figures


def law_of_x(data: Any, split: str) -> Truth | None:
    """The exact law of x as the method receives it; None where it is not known.

    A presentation that rescales x and has a `truth` of its own has carried the law along. The source's law holds as
    long as x is what the source gave; the first records of the split tell, for standardised vectors have the spec of
    raw ones.
    """
    if data.truth is None or type(data).truth is not DataModule.truth:
        return data.truth
    rows = data.rows[split][:16]
    return data.truth if torch.equal(data.records(split, 16).x, data.columns["x"][rows]) else None

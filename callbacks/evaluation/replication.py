"""How far draws are from those that another way of sampling makes of the same noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.samples import BesideRecords, drawn_anew, draws_of
from modules.capabilities import SteeredSampler


class Replication(BesideRecords):
    """Figures of n draws beside those of the same model from the same noise under a reference's parts.

    - `replication_error`: root mean square difference of the two, in standard deviations of the records.

    It is what a faster sampler or a cheaper guidance changes. Names that are left out stay the method's own: with
    none at all the evaluation does nothing.

    Args:
        sampler: config of the reference's sampler.
        timesteps: config of its schedule.
        guidance: config of its guidance.
        n: number of draws.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (SteeredSampler,)

    def __init__(
        self,
        sampler: Mapping[str, Any] | None = None,
        timesteps: Mapping[str, Any] | None = None,
        guidance: Mapping[str, Any] | None = None,
        n: int = 1000,
        **parts: Any,
    ) -> None:
        super().__init__(n, **parts)
        self.sampler, self.timesteps, self.guidance = sampler, timesteps, guidance

    @property
    def reference(self) -> dict[str, Any]:
        """The parts that are exchanged, by name."""
        named = {"sampler": self.sampler, "timesteps": self.timesteps, "guidance": self.guidance}
        return {name: node for name, node in named.items() if node is not None}

    def misfit(self, method, spec):
        return None if self.reference else "no reference is given"

    def compute(self, method, data) -> Mapping[str, float]:
        own = draws_of(method, data, self.n)
        with drawn_anew(method), method.steered(**self.reference):
            reference = draws_of(method, data, self.n)
        records = self.rows_of_all(torch.cat(self.real))
        return self.on_rank_zero(lambda: {"replication_error": replication_error(own, reference, records)})


def replication_error(own: Tensor, reference: Tensor, records: Tensor) -> float:
    """Root mean square difference of draws (n, ...), over the records' root mean square distance to their mean."""
    spread = (records.double() - records.double().mean(0)).square().mean().sqrt()
    return float((own.double() - reference.double()).square().mean().sqrt() / spread)

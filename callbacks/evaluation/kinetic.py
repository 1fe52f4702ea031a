"""How much a flow moves what it carries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import Flow


class Kinetic(Evaluation):
    """`kinetic_energy`: of a Flow's own path over the records of a split, per dimension; see `Flow.kinetic_energy`.

    The random times and numbers depend on the batch and the seed of the data: the number of processes moves the figure
    by its Monte Carlo error.

    Args:
        draws: random times and numbers per record; 8 leave an error of about 1% with 5000 records in the plane.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Flow,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(self, draws: int = 8, **parts: Any) -> None:
        super().__init__(**parts)
        self.draws = draws

    def start(self, method, data) -> None:
        self.data = data
        self.energies: list[torch.Tensor] = [torch.empty(0, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        with seeded(self.data.seed, "kinetic", len(self.energies), self.data.share[0]):
            found = torch.stack([method.kinetic_energy(batch.x) for _ in range(self.draws)])
        self.energies.append(precise(found).mean(0).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        return {"kinetic_energy": float(self.rows_of_all(torch.cat(self.energies)).mean())}

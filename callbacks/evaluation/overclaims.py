"""Whether claims of reliability are borne out by the systems of each population."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.capabilities import ReliabilityAssessor


class Overclaims(Evaluation):
    """Figures of a ReliabilityAssessor on Labelled batches whose class 1 says that a period was passed.

    - `passing`: share of systems that pass; `claimed`: the mean of what is claimed of them.
    - `overclaims`: populations of which more is claimed than is true, by an exact binomial test at `level` over all
      populations together (Bonferroni); `populations`: how many there are. For claims that differ within a population
      their mean is tested, to which fewer successes are still less likely (Hoeffding 1956).
    - `excess`: the largest amount by which the claim of a population lies above the share that passes; below 0 where
      none does. By chance it is a few standard errors for claims that are true.

    Args:
        level: of the test; 0.01: one in a hundred runs finds an overclaim where there is none.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a level outside of (0, 1).
    """

    capabilities = (ReliabilityAssessor,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, level: float = 0.01, **parts) -> None:
        super().__init__(**parts)
        if not 0 < level < 1:
            raise UserError(f"{self.name}.level={level}: it is a probability, in (0, 1).")
        self.level = level

    def start(self, method, data) -> None:
        self.rows = [torch.empty(0, 3, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        claimed = self.ask(method, "predict_reliability", batch.x)
        columns = (method.population(batch.x), batch.y == 1, claimed)
        self.rows.append(torch.stack([column.double().cpu() for column in columns], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        from scipy.stats import binom

        population, passes, claimed = self.rows_of_all(torch.cat(self.rows)).T
        population = population.long()
        systems = torch.bincount(population)
        there = systems > 0
        passing = torch.bincount(population, passes)[there]
        claim, systems = torch.bincount(population, claimed)[there] / systems[there], systems[there]
        tails = torch.from_numpy(binom.cdf(passing.numpy(), systems.numpy(), claim.clamp(0, 1).numpy()))
        return {
            "passing": float(passes.mean()),
            "claimed": float(claimed.mean()),
            "overclaims": float((tails < self.level / len(claim)).sum()),
            "populations": float(len(claim)),
            "excess": float((claim - passing / systems).max()),
        }

"""Of how many dimensions a flow believes the data to be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Unlabelled
from modules.capabilities import Stretching

STEPS = 64
"""Noise ratios from `HIGHEST` to the lowest."""

HIGHEST = 50.0


class LocalDimension(Evaluation):
    """Local intrinsic dimension of n draws, from how the flow from noise to data stretches their neighbourhoods.

    A singular value of the flow's Jacobian stays as the noise falls where the data extend, and falls with the noise
    where they do not. The dimension of a draw is the number of values that fall by less than the root of what the noise
    falls by, between the noise ratios `high` and `low`.

    - `local_dimension`: mean over draws.
    - `dimension_error`: mean of |dimension - truth|.

    Horvat and Pfister 2024, "On gauge freedom, conservativity and intrinsic dimensionality estimation in diffusion
    models". Deviation: they read singular values off curves; the rule by slopes is ours.

    Args:
        truth: dimension of the data; None leaves this evaluation out.
        n: number of draws.
        high: noise ratio sigma / alpha at which values begin to be compared, in units of the data.
        low: at which they end.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: ratios that do not fall.
    """

    capabilities = (Stretching,)
    batch_type = Unlabelled
    stages = ("test",)

    def __init__(
        self, truth: int | None = None, n: int = 200, high: float = 0.2, low: float = 0.04, **parts: Any
    ) -> None:
        super().__init__(**parts)
        if not HIGHEST > high > low > 0:
            raise UserError(f"{self.name}.high={high} {self.name}.low={low}: ratios below {HIGHEST} that fall.")
        self.truth, self.n, self.high, self.low = truth, n, high, low

    def misfit(self, method, spec):
        return "no dimension was named" if self.truth is None else None

    def compute(self, method, data) -> Mapping[str, float]:
        ratios = torch.logspace(*torch.tensor([HIGHEST, self.high]).log10().tolist(), STEPS, dtype=torch.float64)
        last = torch.logspace(*torch.tensor([self.high, self.low]).log10().tolist(), 16, dtype=torch.float64)[1:]
        with seeded(data.seed, "local dimension"):
            values = method.stretching(self.n, torch.cat([ratios, last]))
        return self.on_rank_zero(lambda: self.figures_of(values[STEPS - 1], values[-1]))

    def figures_of(self, before: torch.Tensor, after: torch.Tensor) -> dict[str, float]:
        """Singular values (n, D) at the two ratios -> the figures."""
        kept = after / before > (self.low / self.high) ** 0.5
        dimension = kept.sum(1).double()
        return {
            "local_dimension": float(dimension.mean()),
            "dimension_error": float((dimension - self.truth).abs().mean()),
        }

"""Error and sharpness of predictive laws of a real target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torchmetrics import MeanSquaredError

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.crps import crps
from callbacks.metrics.precision import precise
from compendium.seeding import seeded
from datamodules.batches import Labelled
from modules.capabilities import Regressor


class Regression(Evaluation):
    """Figures of a Regressor on Labelled batches with a real target, in the target's own units.

    - `rmse`: (mean of (E[y | x] - y)^2)^(1/2), of the law's mean.
    - `nll`: mean of -ln p(y | x), nats per record.
    - `crps`: mean continuous ranked probability score (Gneiting and Raftery 2007): exact for a Normal and a mixture of
      Normals, estimated from draws for any other law (see `callbacks.metrics.crps`). Only the estimate depends on how
      the records are shared out among processes: by its Monte Carlo error, about 0.6 s / sqrt(draws * records).

    Args:
        draws: draws per record where the CRPS has no closed form. 256: an error of 4% of s for one record, of 0.1%
            for a thousand.
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Regressor,)
    batch_type = Labelled

    def __init__(self, draws: int = 256, **parts: Any) -> None:
        super().__init__(**parts)
        self.draws = draws

    def misfit(self, method, spec):
        return None if spec.target == "real" else "the target is no real number"

    def start(self, method, data) -> None:
        self.seed = data.seed
        self.nll, self.crps = mean_of(method), mean_of(method)
        self.rmse = MeanSquaredError(squared=False).set_dtype(self.nll.dtype).to(self.nll.device)

    def update(self, method, batch) -> None:
        law = self.ask(method, "predict_distribution", batch.x)
        self.rmse.update(precise(law.mean).contiguous(), precise(batch.y))
        self.nll.update(-precise(law.log_prob(batch.y)))
        with seeded(self.seed, "crps", self.batch_idx):
            self.crps.update(crps(law, batch.y, self.draws))

    def compute(self, method, data) -> Mapping[str, float]:
        return {name: float(getattr(self, name).compute()) for name in ("rmse", "nll", "crps")}

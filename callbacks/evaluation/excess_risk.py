"""Whether an uncertainty is what is lost beyond the noise of the response."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.second_order import spearman
from callbacks.metrics.precision import precise
from datamodules.batches import Explained
from modules.capabilities import Regressor, Uncertain


class ExcessRisk(Evaluation):
    """Figures of an uncertain Regressor's u(x) against its excess risk (f(x) - E[y|x])^2, f the mean of its law.

    - `excess_risk`: its mean, in squared units of the target: what is lost beyond the noise of the response.
    - `uncertainty`: mean of u.
    - `excess_spearman`: rank correlation of the two over records.
    - `excess_error`: mean of |u - excess risk|.

    NaN where the mean of the response is not known.

    Lahlou et al. 2022, "DEUP: Direct Epistemic Uncertainty Prediction", section 2.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Regressor, Uncertain)
    batch_type = Explained
    stages = ("test",)
    papers = ("deup2022direct",)

    def start(self, method, data) -> None:
        self.pairs = [torch.empty(0, 2, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        mean = precise(self.ask(method, "predict_distribution", batch.x).mean)
        excess = (mean - precise(batch.mean)).square()
        self.pairs.append(torch.stack([precise(method.uncertainty(batch.x)), excess], 1).cpu().double())

    def compute(self, method, data) -> Mapping[str, float]:
        uncertainty, excess = self.rows_of_all(torch.cat(self.pairs)).T
        figures = {
            "excess_risk": float(excess.mean()),
            "uncertainty": float(uncertainty.mean()),
            "excess_spearman": spearman(uncertainty, excess),
            "excess_error": float((uncertainty - excess).abs().mean()),
        }
        return dict.fromkeys(figures, math.nan) if math.isnan(figures["excess_risk"]) else figures

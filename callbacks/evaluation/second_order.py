"""Second-order calibration, where the true law of the response is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from callbacks.metrics.second_order import outside, second_order_error
from compendium.errors import UserError
from datamodules.batches import Responses
from modules.capabilities import Classifier, SecondOrder


class SecondOrderCalibration(Evaluation):
    """Figures of a Classifier's predicted variance V(y|x) of the true p(y|x) around its own q(y|x), over all (x, y).

    - `law_error`: mean of (p - q)^2, what the classifier does not know.
    - `variance`: mean of V, what it says that it does not know.
    - `second_order_error`: sum over bins of V of their share times |mean V - mean (p - q)^2|: 0 where V is second-order
      calibrated.
    - `outside`: share of |p - q| >= sqrt(V / beta), at most beta of a calibrated V, by Chebyshev's inequality.
    - `law_spearman`: rank correlation of V and (p - q)^2.

    V is the method's own `epistemic_variance`. All but the first and the last one are also given, as
    `naive_`..., of q (1 - q), which takes all noise of the response for ignorance. NaN where the law is unknown.

    Johnson et al. 2024, "Experts Don't Cheat: Learning What You Don't Know By Predicting Pairs".
    Deviations: bins hold equally many pairs (x, y).

    Args:
        bins: of `second_order_error`.
        beta: in (0, 1).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a value out of range.
    """

    capabilities = (Classifier,)
    batch_type = Responses
    stages = ("test",)
    papers = ("johnson2024experts",)

    def __init__(self, bins: int = 20, beta: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        if bins < 1 or not 0 < beta < 1:
            raise UserError(f"{self.name}.bins={bins} beta={beta}: at least one, and in (0, 1).")
        self.bins, self.beta = bins, beta

    def start(self, method, data) -> None:
        self.pairs = [torch.empty(0, 3, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        q = precise(self.ask(method, "predict_log_proba", batch.x)).exp().cpu()
        own = isinstance(method, SecondOrder)
        variance = precise(method.epistemic_variance(batch.x)).cpu() if own else torch.full_like(q, math.nan)
        squared = (batch.law.cpu().double() - q).square()
        self.pairs.append(torch.stack([part.double().flatten() for part in (variance, squared, q * (1 - q))], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        variance, squared, naive = self.rows_of_all(torch.cat(self.pairs)).T
        figures = {"law_error": float(squared.mean())} | self.of(naive, squared, "naive_")
        if isinstance(method, SecondOrder):
            figures |= self.of(variance, squared, "") | {"law_spearman": spearman(variance, squared)}
        return dict.fromkeys(figures, math.nan) if math.isnan(figures["law_error"]) else figures

    def of(self, variance: torch.Tensor, squared: torch.Tensor, prefix: str) -> dict[str, float]:
        """The figures of a variance."""
        return {
            f"{prefix}variance": float(variance.mean()),
            f"{prefix}second_order_error": second_order_error(variance, squared, self.bins),
            f"{prefix}outside": outside(variance, squared, self.beta),
        }


def spearman(a: torch.Tensor, b: torch.Tensor) -> float:
    """Rank correlation of two columns (n,); NaN where one is constant."""
    from scipy.stats import spearmanr

    if not float(a.std()) or not float(b.std()):
        return math.nan
    return float(spearmanr(a.numpy(), b.numpy()).statistic)

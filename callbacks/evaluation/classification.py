"""Accuracy and calibration of class probabilities."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch.nn.functional import one_hot
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy, MulticlassCalibrationError

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from datamodules.batches import Labelled
from modules.capabilities import Classifier


class Classification(Evaluation):
    """Figures of a Classifier on Labelled batches with a class as target; p_ik: probability of class k for record i.

    - `accuracy`: share of records whose class has the highest probability.
    - `nll`: mean of -ln p_iy, nats per record; infinite where a record's class was given probability 0.
    - `brier`: mean of sum_k (p_ik - [k = y_i])^2, in [0, 2] (Brier 1950, over all classes).
    - `ece`: sum_b (n_b / n) |accuracy_b - mean confidence_b| over equal-width bins of the highest probability
      (Guo et al. 2017, equation 3).

    A NaN among the probabilities makes all four NaN: no accuracy is read off a method that diverged.

    Args:
        bins: number of confidence bins of `ece` (Guo et al. 2017, section 5: 15).
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Classifier,)
    batch_type = Labelled

    def __init__(self, bins: int = 15, **parts: Any) -> None:
        super().__init__(**parts)
        self.bins = bins

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        classes = len(data.spec.classes)
        self.nll, self.brier = mean_of(method), mean_of(method)
        self.metrics = MetricCollection(
            {
                "accuracy": MulticlassAccuracy(classes, average="micro", validate_args=False),
                "ece": MulticlassCalibrationError(classes, n_bins=self.bins, validate_args=False),
            },
            compute_groups=False,
        ).to(self.nll.device)

    def update(self, method, batch) -> None:
        log_proba = precise(self.ask(method, "predict_log_proba", batch.x))
        y = batch.y.to(log_proba.device)
        proba = log_proba.exp()
        # torchmetrics takes numbers above 1, by rounding alone, for logits, and would apply a softmax to the batch.
        self.metrics.update(proba.clamp(max=1), y)
        self.nll.update(-log_proba.gather(1, y[:, None]).squeeze(1))
        self.brier.update((proba - one_hot(y, proba.shape[1])).square().sum(1))

    def compute(self, method, data) -> Mapping[str, float]:
        figures = {name: float(value) for name, value in self.metrics.compute().items()}
        figures |= {"nll": float(self.nll.compute()), "brier": float(self.brier.compute())}
        return dict.fromkeys(figures, math.nan) if math.isnan(figures["brier"]) else figures

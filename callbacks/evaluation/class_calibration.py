"""Calibration of the probabilities of all classes, and not of the likeliest one alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.calibration import brier_parts, classwise_ece, ks_error
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.capabilities import Classifier


class ClassCalibration(Evaluation):
    """Calibration errors of a Classifier on Labelled batches with a class as target; all in [0, 1], 0 is calibrated.

    - `classwise_ece`: mean over classes of the binned ECE of each class's probability (Kull et al. 2019).
    - `ks`: Kolmogorov-Smirnov error of the highest probability and whether that class came true (Gupta et al. 2021).
    - `brier_reliability`, `brier_resolution`, `brier_uncertainty`, `brier_within`: parts of the Brier score, the second
      one to be subtracted (Murphy 1973), see `callbacks.metrics.calibration.BrierParts`.

    Args:
        bins: of equal width; 15 (Guo et al. 2017, section 5).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number of bins below 1.
    """

    capabilities = (Classifier,)
    batch_type = Labelled

    def __init__(self, bins: int = 15, **parts: Any) -> None:
        super().__init__(**parts)
        if bins < 1:
            raise UserError(f"{self.name}.bins={bins}: there is at least one.")
        self.bins = bins

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.rows = [torch.empty(0, len(data.spec.classes) + 1, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        proba = precise(self.ask(method, "predict_log_proba", batch.x)).exp().clamp(max=1)
        self.rows.append(torch.cat([proba, batch.y[:, None].to(proba)], 1).double().cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.rows))
        proba, y = rows[:, :-1], rows[:, -1].long()
        confidence, top = proba.max(1)
        parts = brier_parts(proba, y, self.bins)
        return {
            "classwise_ece": classwise_ece(proba, y, self.bins),
            "ks": ks_error(confidence, top == y),
            **{f"brier_{name}": value for name, value in parts._asdict().items()},
        }

"""A trained classifier, recalibrated on records that it was not trained on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from datamodules.spec import DataSpec
from modules.capabilities import Classifier
from modules.uncertainty.calibrators.base import Calibrator
from modules.uncertainty.trained import Trained


class Recalibrated(Trained):
    """Class probabilities g(p(x)), with p a trained classifier's and g a calibrator's, fit after it.

    Args:
        spec: records held out of the classifier's training: `datamodule=held_out`.
        calibrator: config of a `modules.uncertainty.calibrators.base.Calibrator`, `calibrator=`.
        parts: `model` and `net`, see `Trained`.

    Raises:
        UserError: see `Trained`.
    """

    targets = ("class",)
    capability = Classifier

    def __init__(self, spec: DataSpec | Mapping[str, Any], calibrator: Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.calibrator: Calibrator = instantiate(
            calibrator, where="model.calibrator", classes=len(self.spec.classes), records=len(self.kept)
        )

    def solve(self) -> None:
        log_proba, y = self.noted()
        self.calibrator.fit(log_proba, y)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes), float64."""
        return self.calibrator(self.predict(x))

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the classifier's features (B, D)."""
        return self.asked.embed(x)

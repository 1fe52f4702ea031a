"""Class probabilities on records whose law has shifted."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torchmetrics.functional.classification import multiclass_calibration_error

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Labelled
from datamodules.presentations.shifts import SEVERITIES, SHIFTS, Statistics, shift, statistics
from modules.capabilities import Classifier


class Shifted(Evaluation):
    """Figures of a Classifier on test records that were corrupted or drawn anew, by shift and severity.

    - `accuracy_SHIFT_SEVERITY`, `nll_SHIFT_SEVERITY` (nats), `ece_SHIFT_SEVERITY` (15 bins), and without the severity
      their means over the severities: `accuracy_noise`.
    - `accuracy_shifted`, `nll_shifted`, `ece_shifted`: means over all shifts and severities.

    Shifts of pictures: noise, blur, contrast, rotation, occlusion; of vectors: noise, missing, covariate, label
    (see `datamodules.presentations.shifts`). After Hendrycks and Dietterich 2019, "Benchmarking Neural Network
    Robustness to Common Corruptions and Perturbations", and Ovadia et al. 2019, "Can You Trust Your Model's
    Uncertainty?".

    Process 0 computes.

    Args:
        shifts: which; None: all of the kind of records.
        severities: 1 to 5.
        limit: how many test records, the first ones.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a shift that there is not, a severity out of range.
    """

    capabilities = (Classifier,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(
        self,
        shifts: Sequence[str] | None = None,
        severities: Sequence[int] = (1, 3, 5),
        limit: int = 1000,
        **parts: Any,
    ) -> None:
        super().__init__(**parts)
        if not severities or not set(severities) <= set(SEVERITIES):
            raise UserError(f"{self.name}.severities={list(severities)}: some of 1 to 5.")
        if limit < 1:
            raise UserError(f"{self.name}.limit={limit}: at least one record.")
        known = sorted({name for of_kind in SHIFTS.values() for name in of_kind})
        unknown = [name for name in shifts or () if name not in known]
        if unknown:
            raise UserError(f"{self.name}.shifts: there is no '{unknown[0]}'.", f"there are: {', '.join(known)}")
        self.shifts, self.severities, self.limit = shifts, tuple(severities), limit

    def misfit(self, method, spec):
        if spec.target != "class":
            return "the target is no class"
        return None if spec.kind in SHIFTS else f"there are no shifts of {spec.kind}"

    def misfit_of_records(self, data):
        columns = data.columns
        if not {"x", "y"} <= set(columns):
            return "the records have no x and y of their own"
        return None if isinstance(columns["x"], Tensor) else "the records do not lie in memory"

    def update(self, method, batch) -> None:
        """Nothing: `compute` makes records of its own."""

    def compute(self, method, data) -> Mapping[str, float]:
        return self.on_rank_zero(lambda: self.figures_of(method, data))

    def figures_of(self, method: Any, data: Any) -> dict[str, float]:
        """The figures of all shifts."""
        at: dict[str, list[dict[str, float]]] = {}
        figures: dict[str, float] = {}
        for name, severity, batch in self.batches(method, data):
            judged = self.judged(method, batch)
            at.setdefault(name, []).append(judged)
            figures |= {f"{figure}_{name}_{severity}": value for figure, value in judged.items()}
        everything = [one for of_shift in at.values() for one in of_shift]
        for figure in ("accuracy", "nll", "ece"):
            for name, of_shift in at.items():
                figures[f"{figure}_{name}"] = sum(one[figure] for one in of_shift) / len(of_shift)
            figures[f"{figure}_shifted"] = sum(one[figure] for one in everything) / len(everything)
        return figures

    def batches(self, method: Any, data: Any) -> Iterator[tuple[str, int, Any]]:
        """The name of each shift, each severity, and the records of the split so shifted, as one batch."""
        kind = data.spec.kind
        plain = self.columns_of(method, data, self.limit)
        # Shifts of pictures ask for no statistics, and all training pictures can be many.
        trained = data.columns["x"][data.rows["train"]] if kind == "vector" else plain["x"]
        known = Statistics(*(part.to(method.device) for part in statistics(trained.float())))
        for name in SHIFTS[kind] if self.shifts is None else self.shifts:
            for severity in self.severities:
                with seeded(data.seed, "shift", name, severity):
                    yield name, severity, data.present(shift(kind, name)(plain, severity, known), self.split)

    @staticmethod
    def judged(method: Any, batch: Labelled) -> dict[str, float]:
        """Accuracy, NLL and ECE of one batch; all NaN with a NaN among the probabilities."""
        log_proba = torch.cat([precise(method.predict_log_proba(x)) for x in batch.x.split(1024)])
        y = batch.y.to(log_proba.device)
        if bool(log_proba.isnan().any()):
            return dict.fromkeys(("accuracy", "nll", "ece"), math.nan)
        ece = multiclass_calibration_error(
            log_proba.exp().clamp(max=1), y, log_proba.shape[1], n_bins=15, validate_args=False
        )
        return {
            "accuracy": float((log_proba.argmax(1) == y).double().mean()),
            "nll": float(-log_proba.gather(1, y[:, None]).mean()),
            "ece": float(ece),
        }

"""Coverage and width of intervals of a real target."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.coverage import counted, least
from callbacks.metrics.means import mean
from callbacks.metrics.quantiles import interval_score
from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.capabilities import IntervalPredictor


class IntervalCoverage(Evaluation):
    """Figures of an IntervalPredictor on Labelled batches with a real target, in the target's own units.

    - `coverage`, `coverage_low`, `coverage_high`, `covered`, `records`: as in `callbacks.evaluation.coverage`.
    - `width`: mean width of the intervals.
    - `interval_score`: mean of width + 2 / alpha (distance of the target from the interval) (Gneiting and Raftery
      2007): low for intervals that are narrow and right.
    - `width_coverage_worst`: the least coverage of the records in one of `strata` equal parts, from the narrowest to
      the widest intervals; the coverage itself where all have the same width.

    Args:
        strata: parts by width. 3: of the 89 test records of the smallest table, thirty each.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: fewer than one part.
    """

    capabilities = (IntervalPredictor,)
    batch_type = Labelled

    def __init__(self, strata: int = 3, **parts) -> None:
        super().__init__(**parts)
        if strata < 1:
            raise UserError(f"{self.name}.strata={strata}: there is one part at least.")
        self.strata = strata

    def misfit(self, method, spec):
        return None if spec.target == "real" else "the target is no real number"

    def start(self, method, data) -> None:
        self.rows = [torch.empty(0, 3, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        interval = self.ask(method, "predict_interval", batch.x).double().cpu()
        self.rows.append(torch.cat([interval, batch.y.double().cpu()[:, None]], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        low, high, y = self.rows_of_all(torch.cat(self.rows)).T
        covered, width = (low <= y) & (y <= high), high - low
        order = width.argsort()
        same = not len(width) or bool(width.max() - width.min() <= 1e-6 * width.max())
        parts = [covered] if same else covered[order].tensor_split(self.strata)
        shares = [part.double().mean() for part in parts if len(part)]
        return {
            **counted(covered),
            "width": mean(width),
            "interval_score": mean(interval_score(low, high, y, 1 - method.alpha)),
            "width_coverage_worst": least(torch.stack(shares)) if shares else math.nan,
        }

"""How near predicted points are, and whether their variance says so."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from datamodules.batches import Pointed
from modules.capabilities import PointPredictor

LEVELS = tuple(0.05 * level for level in range(1, 20))
"""Nominal coverages of the central intervals."""


class Points(Evaluation):
    """Figures of a PointPredictor on Pointed batches; m and v are its means and variances, epistemic and aleatoric.

    - `rmse`: root of the mean of (m - y)^2 over all coordinates, in units of half the picture's side.
    - `nll`: mean of -ln N(y; m, v), nats per coordinate.
    - `coverage_error`: mean over the levels 0.05, ..., 0.95 of |level - share of coordinates in the central interval of
      that level of N(m, v)| (Kuleshov et al. 2018, with absolute differences), in [0, 0.5].
    - `error_correlation`: Pearson correlation over pictures of the mean squared error and the mean of v.
    - `epistemic_correlation`, `aleatoric_correlation`: the same with a part of v; left out where that is constant.

    Adams and Elhabian 2023 look at error and correlations (their eval.py); likelihood and coverage are our way to say
    how well calibrated v is.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (PointPredictor,)
    batch_type = Pointed
    papers = ("adams2023fully",)

    def start(self, method, data) -> None:
        self.rows = [torch.empty(0, 4 + len(LEVELS), dtype=torch.float64)]

    def update(self, method, batch) -> None:
        mean, epistemic, aleatoric = map(precise, self.ask(method, "predict_points", batch.x))
        error, variance = (precise(batch.points) - mean).square(), epistemic + aleatoric
        nll = (torch.log(2 * math.pi * variance) + error / variance) / 2
        reach = math.sqrt(2) * torch.erfinv(variance.new_tensor(LEVELS))
        inside = (error / variance).sqrt().flatten(1)[:, :, None] <= reach
        each = [part.flatten(1).mean(1) for part in (error, nll, epistemic, aleatoric)]
        self.rows.append(torch.cat([torch.stack(each, 1), inside.to(variance).mean(1)], 1).cpu().double())

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.rows))
        error, nll, epistemic, aleatoric = rows[:, :4].T
        figures = {
            "rmse": float(error.mean().sqrt()),
            "nll": float(nll.mean()),
            "coverage_error": float((rows[:, 4:].mean(0) - rows.new_tensor(LEVELS)).abs().mean()),
        }
        parts = {"error": epistemic + aleatoric, "epistemic": epistemic, "aleatoric": aleatoric}
        for name, part in parts.items():
            if len(rows) > 1 and float(part.std()) > 0 and float(error.std()) > 0:
                figures[f"{name}_correlation"] = float(torch.corrcoef(torch.stack([part, error]))[0, 1])
        return figures

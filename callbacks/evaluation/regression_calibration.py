"""Calibration of predictive laws of a real target."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from callbacks.metrics.quantiles import interval_score, pit, quantile
from callbacks.pictures import DPI, INK, save
from compendium.errors import UserError
from compendium.seeding import seeded
from datamodules.batches import Labelled
from modules.capabilities import Regressor


class RegressionCalibration(Evaluation):
    """Calibration of a Regressor on Labelled batches with a real target.

    - `pit_ks`: largest distance of the distribution of F(y | x) over records from the uniform one, in [0, 1].
    - `calibration_error`: root mean square over 19 levels 0.05, ..., 0.95 of the share of records in the central
      interval of that level minus the level (Kuleshov et al. 2018).
    - `coverage_50`, ... : share of records in the central interval, by level in percent.
    - `interval_score_50`, ... : mean interval score (Gneiting and Raftery 2007), and `width_50`, ... : mean width, in
      the target's own units.

    Process 0 writes `pit.png` into the run folder: the histogram of F(y | x).

    Args:
        levels: of the intervals, in (0, 1).
        draws: draws per record for a law whose distribution function is not known.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a level outside (0, 1).
    """

    capabilities = (Regressor,)
    batch_type = Labelled
    stages = ("test",)

    def __init__(self, levels: Sequence[float] = (0.5, 0.9), draws: int = 1024, **parts: Any) -> None:
        super().__init__(**parts)
        if not levels or not all(0 < level < 1 for level in levels):
            raise UserError(f"{self.name}.levels={list(levels)}: probabilities between 0 and 1.")
        self.levels, self.draws = tuple(levels), draws

    def misfit(self, method, spec):
        return None if spec.target == "real" else "the target is no real number"

    def start(self, method, data) -> None:
        self.seed = data.seed
        self.rows = [torch.empty(0, 1 + 2 * len(self.levels), dtype=torch.float64)]

    def update(self, method, batch) -> None:
        law = self.ask(method, "predict_distribution", batch.x)
        y = precise(batch.y)
        with seeded(self.seed, "quantiles", self.batch_idx):
            columns = [pit(law, batch.y, self.draws)]
            for level in self.levels:
                low, high = (quantile(law, (1 + side * level) / 2, self.draws) for side in (-1, 1))
                columns += [interval_score(low, high, y, level), high - low]
        self.rows.append(torch.stack([column.cpu().double() for column in columns], 1))

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.rows))
        return self.on_rank_zero(lambda: self.figures_of(rows, data))

    def figures_of(self, rows: Tensor, data: Any) -> dict[str, float]:
        """The figures, and the picture."""
        transform = rows[:, 0].sort().values
        if not len(transform) or bool(rows.isnan().any()):
            names = [f"{figure}_{round(100 * level)}" for level in self.levels for figure in FIGURES]
            return dict.fromkeys(["pit_ks", "calibration_error", *names], math.nan)
        steps = torch.arange(len(transform) + 1, dtype=torch.float64) / len(transform)
        distance = torch.maximum((steps[1:] - transform).abs(), (transform - steps[:-1]).abs()).max()
        levels = torch.arange(1, 20, dtype=torch.float64) / 20
        inside = ((transform - 0.5).abs() <= levels[:, None] / 2).double().mean(1)
        figures = {
            "pit_ks": float(distance),
            "calibration_error": float((inside - levels).square().mean().sqrt()),
        }
        for place, level in enumerate(self.levels):
            share = ((transform - 0.5).abs() <= level / 2).double().mean()
            score, width = rows[:, 1 + 2 * place : 3 + 2 * place].mean(0)
            for name, value in zip(FIGURES, (share, score, width), strict=True):
                figures[f"{name}_{round(100 * level)}"] = float(value)
        title = f"{data.spec.name}: where targets fall ({self.split} split)"
        save(histogram(transform, title), Path(data.trainer.default_root_dir) / "pit.png")
        return figures


FIGURES = ("coverage", "interval_score", "width")


def histogram(transform: Tensor, title: str) -> Any:
    """The histogram of F(y | x), which is flat where the law is right."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(4.8, 3.2), dpi=DPI, layout=ConstrainedLayoutEngine())
    axis = figure.subplots()
    axis.hist(transform.numpy(), bins=20, range=(0, 1), density=True, color=INK, alpha=0.7)
    axis.axhline(1, color="0.4", linewidth=1, linestyle="--")
    axis.set(xlim=(0, 1), xlabel="F(y | x), the share of the predicted law below what came", ylabel="density")
    axis.set_title(title, fontsize=10.5)
    return figure

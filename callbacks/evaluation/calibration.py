"""Calibration of class probabilities, smoothed: figures and the reliability diagram."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.calibration import Bins, Reliability, band, binned, binned_ece, reliability, smooth_ece
from callbacks.metrics.precision import precise
from callbacks.pictures import DPI, INK, save
from compendium.errors import UserError
from compendium.extras import require
from compendium.seeding import seeded
from datamodules.batches import Labelled
from modules.capabilities import Classifier

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WIDEST = 14
"""Points that the line of the diagram is wide where forecasts are densest."""


class Calibration(Evaluation):
    """Calibration errors of a Classifier on Labelled batches with a class as target; all in [0, 1], 0 is calibrated.

    - `smooth_ece`: smooth ECE of the highest probability and whether that class came true (see
      `callbacks.metrics.calibration.smooth_ece`); it has no bins to choose, and no jumps.
    - `ece_equal_mass`: binned ECE of the same, with bins of equally many records.

    With two classes, also of the probability of the second one and whether it came true:

    - `smooth_ece_binary`, `ece_binary` (bins of equal width), `ece_equal_mass_binary`.
    - `ece_binary_spread`: the largest minus the smallest `ece_binary` over the numbers of bins in `spread`: how much
      of that figure is a matter of its bins.
    - `smooth_ece_relplot`: with `peer`, smooth ECE by the authors' own package.

    Process 0 computes, and writes `reliability.png` into the run folder: the smoothed frequency of the event against
    its probability (of the second of two classes, or of the highest probability), as wide as forecasts are dense.

    A NaN among the probabilities makes all figures NaN, and leaves no picture.

    Around the line lies the band of 95% of bootstrap replicates; points are the binned diagram, with intervals.

    Błasiok and Nakkiran 2024, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing".

    Args:
        bins: of the binned figures (Guo et al. 2017, section 5: 15).
        spread: numbers of bins, smallest and largest, of `ece_binary_spread`. 8 to 15: about the range in use.
        peer: report `smooth_ece_relplot` too, which needs the package relplot.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number of bins below 1, a range that is none.
    """

    capabilities = (Classifier,)
    batch_type = Labelled
    stages = ("test",)
    papers = ("blasiok2024smooth",)

    def __init__(
        self, bins: int = 15, spread: tuple[int, int] | list[int] = (8, 15), peer: bool = False, **parts: Any
    ) -> None:
        super().__init__(**parts)
        if bins < 1:
            raise UserError(f"{self.name}.bins={bins}: there is at least one.")
        if len(spread) != 2 or not 1 <= spread[0] <= spread[1]:
            raise UserError(f"{self.name}.spread={list(spread)}: give the smallest and the largest number of bins.")
        self.bins, self.spread, self.peer = bins, tuple(spread), peer

    def misfit(self, method, spec):
        return None if spec.target == "class" else "the target is no class"

    def start(self, method, data) -> None:
        self.forecasts = [torch.empty(0, 4, dtype=torch.float64)]

    def update(self, method, batch) -> None:
        proba = precise(self.ask(method, "predict_log_proba", batch.x)).exp().clamp(max=1)
        y = batch.y.to(proba.device)
        confidence, top = proba.max(1)
        second = proba[:, 1] if proba.shape[1] > 1 else proba[:, 0]
        self.forecasts.append(torch.stack([confidence, (top == y).double(), second, (y == 1).double()], 1).cpu())

    def compute(self, method, data) -> Mapping[str, float]:
        forecasts = self.rows_of_all(torch.cat(self.forecasts))
        return self.on_rank_zero(lambda: self.figures_of(forecasts, data))

    def figures_of(self, forecasts: Tensor, data: Any) -> dict[str, float]:
        """The figures, and the picture."""
        confidence, right, second, happened = forecasts.T.contiguous()
        figures = {
            "smooth_ece": smooth_ece(confidence, right),
            "ece_equal_mass": binned_ece(confidence, right, self.bins, equal_mass=True),
        }
        binary = len(data.spec.classes) == 2
        if binary:
            figures |= self.binary(second, happened)
        if math.isnan(figures["smooth_ece"]):
            return figures
        p, y = (second, happened) if binary else (confidence, right)
        event = data.spec.classes[1] if binary else "the likeliest class"
        title = f"{data.spec.name}: reliability ({self.split} split)"
        smoothed = reliability(p, y)
        with seeded(data.seed, "band"):
            around = band(p, y, smoothed.bandwidth)
        save(
            diagram(smoothed, event, title, around, binned(p, y, self.bins)),
            Path(data.trainer.default_root_dir) / "reliability.png",
        )
        return figures

    def binary(self, p: Tensor, y: Tensor) -> dict[str, float]:
        """The figures of the probability of the second of two classes."""
        over_bins = [binned_ece(p, y, bins) for bins in range(self.spread[0], self.spread[1] + 1)]
        figures = {
            "smooth_ece_binary": smooth_ece(p, y),
            "ece_binary": binned_ece(p, y, self.bins),
            "ece_equal_mass_binary": binned_ece(p, y, self.bins, equal_mass=True),
            "ece_binary_spread": max(over_bins) - min(over_bins),
        }
        if self.peer:
            theirs = require("relplot.metrics", extra="test", needed_by=f"callbacks.evaluation.{self.name}.peer=true")
            known = len(p) and not bool(p.isnan().any())
            figures["smooth_ece_relplot"] = float(theirs.smECE(p.numpy(), y.numpy())) if known else math.nan
        return figures


def diagram(
    smoothed: Reliability,
    event: str,
    title: str,
    around: tuple[Tensor, Tensor] | None = None,
    bars: Bins | None = None,
) -> Figure:
    """The reliability diagram: frequency against probability, as wide as forecasts are dense (the paper's figure 1).

    Args:
        smoothed: what to draw.
        event: whose probability it is.
        title: of the figure.
        around: lower and upper ends of a band around the curve.
        bars: the binned diagram, drawn beside it as points with their intervals.
    """
    from matplotlib.collections import LineCollection
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(4.8, 5.0), dpi=DPI, layout=ConstrainedLayoutEngine())
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="0.6", linewidth=1, linestyle="--")
    points = torch.stack([smoothed.t, smoothed.curve], 1).cpu()
    density = smoothed.density.cpu()
    widths = WIDEST * (density[1:] + density[:-1]) / (2 * density.max())
    segments = torch.stack([points[:-1], points[1:]], 1).numpy()
    if around is not None:
        low, high = around
        there = (density > 1e-3 * density.max()).numpy()
        axis.fill_between(smoothed.t.cpu().numpy(), low.numpy(), high.numpy(), where=there, color=INK, alpha=0.15, lw=0)
    axis.add_collection(LineCollection(list(segments), linewidths=widths.tolist(), colors=INK, capstyle="round"))
    if bars is not None:
        forecast, frequency, low, high, _ = (column.cpu().numpy() for column in bars)
        ends = [(frequency - low).clip(0), (high - frequency).clip(0)]  # below 0 by rounding where all came true
        axis.errorbar(
            forecast, frequency, ends, fmt="o", ms=3.5, color="0.35", mfc="white", lw=0.8, capsize=2, zorder=3
        )
    axis.set(xlim=(0, 1), ylim=(0, 1), box_aspect=1, xlabel=f"probability of {event}", ylabel="how often it came true")
    axis.text(0.04, 0.93, f"smooth ECE {smoothed.error:.3f}", transform=axis.transAxes)
    axis.grid(alpha=0.25, linewidth=0.5)
    axis.set_title(title, fontsize=10.5)
    return figure

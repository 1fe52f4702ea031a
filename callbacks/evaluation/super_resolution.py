"""How near enlarged pictures are to the fine ones, and whether their spread says so."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from datamodules.batches import Magnified
from modules.capabilities import SuperResolver

LEVELS = tuple(0.05 * level for level in range(1, 20))
"""Nominal coverages of the central intervals."""
FLAT = 1e-6
"""Spread below which a pixel's interval is a point, in units of brightness."""


class SuperResolution(Evaluation):
    """Figures of a SuperResolver on Magnified batches; m and s are mean and standard deviation over its passes.

    - `psnr`: 10 log10(range^2 / mean of (m - y)^2), decibels, over all pixels of the split.
    - `ssim`: structural similarity of m and y (Wang et al. 2004), mean over pictures, by torchmetrics: of all pixels,
      with pictures reflected at their edges, where the paper and scikit-image leave a border of 5 pixels out; and of
      values as the method receives them, of the range -1 to 1, where the paper has them from 0 on.
    - `error_correlation`: Pearson correlation of s and |m - y| over all pixels; left out with a single pass.
    - `coverage_error`: mean over the levels 0.05, ..., 0.95 of |level - share of pixels with y in the central interval
      of that level of N(m, s^2)| (Kuleshov et al. 2018, with absolute differences); in [0, 0.5]; left out likewise.

    Adapa et al. 2024 look at the first two, and at error against spread; the last figure is our way to say how well
    they agree.
    """

    capabilities = (SuperResolver,)
    batch_type = Magnified
    papers = ("adapa2024uncertainty",)

    def start(self, method, data) -> None:
        low, high = data.spec.bounds or (0.0, 1.0)
        self.psnr = PeakSignalNoiseRatio(data_range=high - low).to(method.device)
        self.ssim = StructuralSimilarityIndexMeasure(data_range=high - low).to(method.device)
        self.sums = precise(torch.zeros(6, device=method.device))  # n, s, e, s^2, e^2, s e
        self.inside = self.sums.new_zeros(len(LEVELS))
        self.passes = 0

    def update(self, method, batch) -> None:
        draws = precise(self.ask(method, "super_resolve", batch.x))
        self.passes = len(draws)
        mean, spread = draws.mean(0), draws.std(0, correction=0)
        truth = precise(batch.high)
        self.psnr.update(mean.float(), truth.float())
        self.ssim.update(mean.float(), truth.float())
        error = (mean - truth).abs()
        parts = (torch.ones_like(error), spread, error, spread**2, error**2, spread * error)
        self.sums += torch.stack([part.sum() for part in parts])
        z = error / spread.clamp(min=FLAT)
        reach = math.sqrt(2) * torch.erfinv(self.sums.new_tensor(LEVELS))
        self.inside += (z[None] <= reach.view(-1, *[1] * z.ndim)).flatten(1).double().sum(1)

    def compute(self, method, data) -> Mapping[str, float]:
        n, s, e, ss, ee, se = self.sum_of_all(self.sums).tolist()
        inside = self.sum_of_all(self.inside)
        several = self.passes > 1
        width = (ss / n - (s / n) ** 2) * (ee / n - (e / n) ** 2)
        figures = {"psnr": float(self.psnr.compute()), "ssim": float(self.ssim.compute())}
        if several:
            figures["error_correlation"] = (se / n - s * e / n**2) / math.sqrt(width) if width > 0 else math.nan
            figures["coverage_error"] = float((inside / n - inside.new_tensor(LEVELS)).abs().mean())
        return figures

"""Overlap, outlines and calibration of class probabilities at every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from callbacks.metrics.segmentation import bin_gaps, confusion, dice, hausdorff, jaccard
from compendium.errors import UserError
from datamodules.batches import Segmented
from modules.capabilities import Segmenter


class Segmentation(Evaluation):
    """Figures of a Segmenter on Segmented batches; class 0 is the background, and a pixel goes to its likeliest class.

    - `dice`, `dice_NAME`: Dice coefficient of each class but the background, mean over the pictures in whose mask or
      prediction it is, and the mean over these classes; in [0, 1].
    - `iou`: intersection over union of all pixels of the split, mean over all classes, the background included.
    - `hd95`: 95th percentile of the distances between the outlines, in pixels, mean over the pictures and classes where
      both are; a class that was missed or made up counts in `dice` alone.
    - `nll`: mean of -ln p of the pixel's class, nats per pixel.
    - `ece`: binned ECE of the highest probability over all pixels (Guo et al. 2017, equation 3).
    - `classwise_ece`: binned ECE of the probability of each class and whether it is there, mean over all classes.
    - `foreground_ece`, `foreground_classwise_ece`: the same over the pixels whose label is not the background. The
      condition looks at the label, so that perfect forecasts do not give 0; it is what Murugesan et al. 2023 report
      (their code, `calibrate/evaluation/segment_calibrate_evaluator.py`), picture by picture there, over all pixels of
      the split here.

    A NaN among the probabilities makes all figures NaN.

    Args:
        bins: number of bins of equal width (15: that code).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number of bins below 1.
    """

    capabilities = (Segmenter,)
    batch_type = Segmented
    papers = ("murugesan2023trust",)

    def __init__(self, bins: int = 15, **parts: Any) -> None:
        super().__init__(**parts)
        if bins < 1:
            raise UserError(f"{self.name}.bins={bins}: there is at least one.")
        self.bins = bins

    def start(self, method, data) -> None:
        classes = len(data.spec.classes)
        zeros = precise(torch.zeros(2, classes + 1, self.bins, device=method.device))
        self.gaps, self.pixels = zeros, zeros[:, 0, 0].clone()
        self.loss = zeros[0, 0, 0].clone()
        self.counts = torch.zeros(classes, classes, dtype=torch.int64, device=zeros.device)
        # Sums over pictures and their number, of Dice coefficients and of distances.
        self.overlap, self.distance = zeros.new_zeros(2, classes), zeros.new_zeros(2)

    def update(self, method, batch) -> None:
        log_p = precise(self.ask(method, "predict_log_proba_map", batch.x))
        truth = batch.segments.to(log_p.device)
        self.loss += -log_p.gather(1, truth[:, None]).sum()
        p, predicted = log_p.exp(), log_p.argmax(1)
        for region, pixels in enumerate((torch.ones_like(truth, dtype=torch.bool), truth > 0)):
            confidence, right = p.amax(1)[pixels], (predicted == truth)[pixels]
            self.gaps[region, 0] += bin_gaps(confidence, right.double(), self.bins)
            for k in range(p.shape[1]):
                self.gaps[region, k + 1] += bin_gaps(p[:, k][pixels], (truth == k)[pixels].double(), self.bins)
            self.pixels[region] += pixels.sum()
        counts = confusion(predicted, truth, p.shape[1])
        self.counts += counts.sum(0)
        overlap = dice(counts)
        self.overlap += torch.stack([overlap.nansum(0), overlap.isfinite().sum(0)])
        for k in range(1, p.shape[1]):
            distance = hausdorff(predicted == k, truth == k)
            self.distance += torch.stack([distance.nansum(), distance.isfinite().sum()])

    def compute(self, method, data) -> Mapping[str, float]:
        parts = (self.gaps, self.pixels, self.loss, self.counts, self.overlap, self.distance)
        gaps, pixels, loss, counts, overlap, distance = (self.sum_of_all(part) for part in parts)
        errors = gaps.abs().sum(2) / pixels[:, None]
        dices = (overlap[0] / overlap[1])[1:]
        figures = {
            "dice": dices.nanmean(),
            **{f"dice_{name}": value for name, value in zip(data.spec.classes[1:], dices, strict=True)},
            "iou": jaccard(counts).nanmean(),
            "hd95": distance[0] / distance[1],
            "nll": loss / pixels[0],
            "ece": errors[0, 0],
            "classwise_ece": errors[0, 1:].mean(),
            "foreground_ece": errors[1, 0],
            "foreground_classwise_ece": errors[1, 1:].mean(),
        }
        plain = {name: float(value) for name, value in figures.items()}
        return dict.fromkeys(plain, math.nan) if math.isnan(plain["nll"]) else plain

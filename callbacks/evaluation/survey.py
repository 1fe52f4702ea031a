"""Errors of class, instance and depth at every pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.precision import precise
from callbacks.metrics.segmentation import confusion, jaccard
from datamodules.batches import Surveyed
from modules.capabilities import Surveyor


class Survey(Evaluation):
    """Figures of a Surveyor on Surveyed batches.

    - `offset_error`: mean |difference| of the components of the offset over the pixels of instances, in pixels.
    - `depth_error`: mean |difference| of inverse depth over all pixels, in its unit.
    - `joint_error`: (1 - IoU) offset_error depth_error, to the power 1/3; IoU is the mean over all classes, of all
      pixels of the split. A change of a unit multiplies it by a constant.

    What is said of classes alone is in `segmentation`.
    """

    capabilities = (Surveyor,)
    batch_type = Surveyed
    papers = ("kendall2018multi",)

    def start(self, method, data) -> None:
        classes = len(data.spec.classes)
        self.sums = precise(torch.zeros(4, device=method.device))  # errors of offset and depth, and their numbers
        self.counts = torch.zeros(classes, classes, dtype=torch.int64, device=self.sums.device)

    def update(self, method, batch) -> None:
        offset, depth = (precise(part) for part in self.ask(method, "predict_geometry", batch.x))
        predicted = precise(self.ask(method, "predict_log_proba_map", batch.x)).argmax(1)
        truth = batch.segments.to(predicted.device)
        inside = truth > 0
        apart = (offset - precise(batch.offset)).abs().movedim(1, 3)[inside]
        deep = (depth - precise(batch.depth)).abs()
        sizes = self.sums.new_tensor([apart.numel(), deep.numel()])
        self.sums += torch.cat([torch.stack([apart.sum(), deep.sum()]), sizes])
        self.counts += confusion(predicted, truth, len(self.counts)).sum(0)

    def compute(self, method, data) -> Mapping[str, float]:
        sums, counts = self.sum_of_all(self.sums), self.sum_of_all(self.counts)
        offset, depth = (float(value) for value in sums[:2] / sums[2:])
        missed = 1 - float(jaccard(counts).nanmean())
        known = math.isfinite(offset * depth)
        joint = (missed * offset * depth) ** (1 / 3) if known else math.nan
        return {"offset_error": offset, "depth_error": depth, "joint_error": joint}

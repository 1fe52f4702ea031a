"""Accuracy and calibration of detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.base import Evaluation
from callbacks.metrics.detections import COCO, average_precision, localised_errors, lrp
from callbacks.metrics.means import known_mean
from callbacks.metrics.precision import precise
from callbacks.metrics.segmentation import bin_gaps
from compendium.errors import UserError
from datamodules.batches import Boxed
from modules.capabilities import Detector
from modules.supervised.boxes import matched, overlaps


class Detection(Evaluation):
    """Figures of a Detector on Boxed batches; all but the first two are of the detections that it keeps.

    - `ap`: COCO's average precision, mean over the IoU 0.5, 0.55, ..., 0.95 and over classes.
    - `ap50`: the same at IoU 0.5 alone.
    - `lrp`: localisation recall precision error where any overlap counts, mean over classes; 0 is best.
    - `laece`: LaECE_0, binned |score - IoU| where any overlap counts, mean over classes with a detection.
    - `laace`: LaACE_0, the same with a bin for each detection.
    - `dece`: D-ECE, binned |score - precision| at IoU 0.5, of all classes together, with bins of 0.1.
    - `kept`: how many detections a picture has.

    Kuzucu et al. 2024, "On Calibration of Object Detectors": detections are kept by a threshold that the detector has
    from other records, and accuracy and calibration are reported together. Checked by the authors' code
    (github.com/fiveai/detection_calibration, `coco_calibration.py`).

    Deviations: boxes match at any overlap above 0, where that code may match boxes that do not touch.

    Args:
        bins: of `laece` (25: the authors' code).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a number of bins below 1.
    """

    capabilities = (Detector,)
    batch_type = Boxed
    papers = ("kuzucu2024calibration",)

    def __init__(self, bins: int = 25, **parts: Any) -> None:
        super().__init__(**parts)
        if bins < 1:
            raise UserError(f"{self.name}.bins={bins}: there is at least one.")
        self.bins = bins

    def start(self, method, data) -> None:
        # Of each detection its score, whether it is kept, its kind, and its IoU at the thresholds 0, 0.5, 0.55, ...
        self.rows = [torch.empty(0, 4 + len(COCO), dtype=torch.float64)]
        self.truths = torch.zeros(len(data.spec.classes) - 1, dtype=torch.int64, device=method.device)
        self.pictures = torch.zeros((), device=method.device)

    def update(self, method, batch) -> None:
        boxes, scores, kinds, kept = self.ask(method, "detect", batch.x)
        iou = overlaps(precise(boxes), precise(batch.boxes))
        truth = batch.kinds.to(iou.device)
        found = [matched(iou, kinds.to(iou.device), truth, least) for least in (0.0, *COCO)]
        of = [precise(scores), *(part.to(iou) for part in (kept, kinds)), *found]
        self.rows.append(torch.stack(of, 2).flatten(0, 1)[(scores > 0).flatten().to(iou.device)].cpu())
        self.truths += truth[truth >= 0].bincount(minlength=len(self.truths)).to(self.truths)
        self.pictures += len(batch.x)

    def compute(self, method, data) -> Mapping[str, float]:
        rows = self.rows_of_all(torch.cat(self.rows))
        truths, pictures = self.sum_of_all(self.truths).tolist(), float(self.sum_of_all(self.pictures))
        score, kept, kind, found = rows[:, 0], rows[:, 1] > 0, rows[:, 2], rows[:, 3:]
        each: dict[str, list[float]] = {name: [] for name in ("ap50", "ap", "lrp", "laece", "laace")}
        for k, count in enumerate(truths):
            of = kind == k
            precisions = [average_precision(score[of], part > 0, count) for part in found[of, 1:].T]
            shown = of & kept
            errors = localised_errors(score[shown], found[shown, 0], self.bins)
            figures = (precisions[0], sum(precisions) / len(COCO), lrp(found[shown, 0], count), *errors)
            for values, value in zip(each.values(), figures, strict=True):
                values.append(value)
        gaps = bin_gaps(score[kept], (found[kept, 1] > 0).double(), 10)
        return {
            **{name: known_mean(values) for name, values in each.items()},
            "dece": float(gaps.abs().sum() / kept.sum()),
            "kept": float(kept.sum()) / pictures,
        }

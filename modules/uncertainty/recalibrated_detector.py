"""A trained detector whose scores are mapped to the IoU that they stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Boxed
from datamodules.spec import DataSpec
from modules.capabilities import Detections, Detector
from modules.supervised.boxes import best_threshold, matched, overlaps
from modules.supervised.detector import CentreDetector
from modules.uncertainty.calibrators.base import minimise
from modules.uncertainty.calibrators.one_vs_rest import between, logit, rising
from modules.uncertainty.trained import Trained

MAPS = ("identity", "temperature", "platt", "isotonic")


class RecalibratedDetector(Trained):
    """Scores g_k(p) for a detection of kind k with score p, fit on records that the detector was not trained on.

        identity     p
        temperature  sigmoid(a_k logit(p)), a_k > 0
        platt        sigmoid(a_k logit(p) + b_k), a_k > 0
        isotonic     the rising function with the least squared error, linear between detections

    What g_k(p) is to be is the IoU of the detection with the box that it is matched with, 0 for a false one:
    temperature and Platt's sigmoid by the cross-entropy to that number, isotonic regression by scikit-learn. Any
    overlap matches.

    1. Detections below a first threshold per class are left out, the one at which LRP is least.
    2. g_k is fit to what is left.
    3. Detections are kept from a second threshold on, at which LRP is least again, of scores that were mapped.

    All are mapped, and none is dropped, so that average precision changes only where g_k makes scores equal.

    Kuzucu et al. 2024, "On Calibration of Object Detectors: Pitfalls, Evaluation and Baselines"; steps and losses were
    checked by the authors' code (github.com/fiveai/detection_calibration: `coco_calibration.py`, `platt_scaling.py`,
    `utils.py`).

    Deviations: (1) L-BFGS to its end, where that code stops after 100 iterations at a rate of 0.1, and 1e-6 times the
    squares of a - 1 and b on top, for a kind whose detections are all alike. (2) Detections below the first threshold
    are mapped and not dropped; isotonic maps go on to 0 at 0 there, so that they keep their order. (3) A kind without
    detections keeps its scores.

    Args:
        spec: pictures with boxes, held out of the detector's training: `datamodule.learn=validation`.
        mapping: from `MAPS`.
        parts: `model` and `net`, see `Trained`; without a model an untrained `CentreDetector`.

    Raises:
        UserError: an unknown mapping; see `Trained`.
    """

    batch_type = Boxed
    kinds = ("image",)
    targets = ("mask",)
    capability = Detector
    papers = ("kuzucu2024calibration",)

    slope: Tensor
    bias: Tensor
    knots: Tensor
    thresholds: Tensor

    def __init__(self, spec: DataSpec | Mapping[str, Any], mapping: str = "isotonic", **parts: Any) -> None:
        super().__init__(spec, **parts)
        if mapping not in MAPS:
            raise UserError(f"model.mapping={mapping} is unknown.", f"there are: {', '.join(MAPS)}")
        self.mapping = mapping
        self.objects = len(self.spec.classes) - 1
        self.register_buffer("slope", torch.ones(self.objects, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(self.objects, dtype=torch.float64))
        self.register_buffer("thresholds", torch.zeros(self.objects, dtype=torch.float64))
        # Scores and IoU (2, kinds, n) of the isotonic map, filled up by the last one.
        even = torch.linspace(0, 1, 2 + self.kept.shape[0] * self.detections, dtype=torch.float64)
        self.register_buffer("knots", even.expand(2, self.objects, -1).clone())

    def opened(self, model: str | Mapping[str, Any] | None) -> tuple[Any, dict[str, Any] | None]:
        return (CentreDetector(self.spec, net=self._net), None) if model is None else super().opened(model)

    @property
    def detections(self) -> int:
        """How many detections a picture has."""
        return int(cast(Any, self.predictor).detections)

    def width(self) -> int:
        return 3 * self.detections + len(self.spec.classes) - 1

    def accumulate(self, batch: Boxed) -> None:
        """Note score, IoU and kind of each detection, and how many boxes of each kind there are."""
        found = self.asked.detect(batch.x)
        iou = matched(overlaps(found.boxes, batch.boxes), found.kinds, batch.kinds, 0.0)
        boxes = F.one_hot(batch.kinds + 1, self.objects + 1)[..., 1:].sum(1)
        self.keep(torch.cat([part.double() for part in (found.scores, iou, found.kinds, boxes)], 1))

    def solve(self) -> None:
        scores, iou, kinds, boxes = self.rows_kept().split([self.detections] * 3 + [self.objects], 1)
        p, iou, kinds, truths = scores.flatten(), iou.flatten(), kinds.flatten(), boxes.sum(0)
        of = [(kinds == k) & (p > 0) for k in range(self.objects)]
        self.slope.fill_(1)
        self.bias.zero_()
        for k, mine in enumerate(of):
            first = best_threshold(p[mine], iou[mine], int(truths[k]))
            left = mine & (p >= first)
            if left.any() and self.mapping != "identity":
                self.fit(k, p[left], iou[left])
        mapped = self.mapped(p, kinds.long())
        for k, mine in enumerate(of):
            self.thresholds[k] = best_threshold(mapped[mine], iou[mine], int(truths[k]))

    def fit(self, k: int, p: Tensor, iou: Tensor) -> None:
        """The map of kind k from scores and IoU (n,)."""
        if self.mapping == "isotonic":
            for buffer, knots in zip(self.knots, rising(p, iou), strict=True):
                buffer[k] = knots[-1]
                buffer[k, 0] = 0  # from where it was fit down to 0, so that lower scores keep their order
                buffer[k, 1 : len(knots) + 1] = knots
            return
        z = logit(p)
        log_slope, bias = p.new_zeros(1), p.new_zeros(1)
        free = [log_slope, bias] if self.mapping == "platt" else [log_slope]

        def loss() -> Tensor:
            ridge = 1e-6 * ((log_slope.exp() - 1).square() + bias.square()).sum()
            return F.binary_cross_entropy_with_logits(log_slope.exp() * z + bias, iou) + ridge

        minimise(loss, free)
        self.slope[k], self.bias[k] = log_slope.exp()[0], bias[0]

    def mapped(self, p: Tensor, kinds: Tensor) -> Tensor:
        """Scores and kinds (n,) -> scores (n,), float64."""
        p = p.double()
        if self.mapping == "identity":
            return p
        if self.mapping == "isotonic":
            return between(*self.knots, p.expand(self.objects, -1)).gather(0, kinds[None])[0]
        return torch.sigmoid(self.slope[kinds] * logit(p) + self.bias[kinds])

    def detect(self, x: Tensor) -> Detections:
        """x (B, C, H, W) -> detections with mapped scores, float64, in the order of the detector's own."""
        found = self.asked.detect(x)
        scores = self.mapped(found.scores.flatten(), found.kinds.flatten()).view_as(found.scores)
        scores = torch.where(found.scores > 0, scores, 0.0)
        return found._replace(scores=scores, kept=(scores >= self.thresholds[found.kinds]) & (scores > 0))

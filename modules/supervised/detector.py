"""A small detector without anchors: a peak for the middle of each object, and the distances to its edges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Boxed
from datamodules.spec import DataSpec
from modules.capabilities import Detections
from modules.method import Method
from modules.supervised.boxes import overlaps

RARE = -2.19
"""Logit of 0.1: what every pixel is to be a middle at first (Zhou et al. 2019)."""


class CentreDetector(Method):
    """At each pixel the probability that it is the middle of an object of each kind, and a box around it.

        loss = heat + sizes + alignment * gap
        heat  = -1/N sum over pixels and kinds of (1 - p)^2 ln p at a middle, (1 - h)^4 p^2 ln(1 - p) elsewhere
        sizes = mean of 1 - IoU of the box that is predicted there, over the pixels where h > 0.3, weighted by h
        gap   = mean over objects of |p - IoU| at the middle

    with the heat h = exp(-distance^2 / (2 s^2)) around a middle, s a sixth of the box's mean side and at least 0.7
    pixels, the highest of all objects' of that kind, and N the number of objects. A detection is a pixel whose p is the
    highest among its eight neighbours; its score is p.

    The heat is that of "Objects as points" (Zhou et al. 2019, equation 1; from memory), the distances to the four edges
    from each pixel are those of FCOS (Tian et al. 2019), as e^output times an eighth of the picture. `gap` stands for
    losses that calibrate while training; it is none of the published ones.

    Args:
        spec: pictures with boxes.
        detections: M, how many a picture has; those with the highest scores.
        threshold: score from which on a detection is kept.
        alignment: weight of `gap`, at least 0.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: fewer than one detection, a threshold outside [0, 1], a negative weight.
    """

    batch_type = Boxed
    kinds = ("image",)
    targets = ("mask",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        detections: int = 10,
        threshold: float = 0.3,
        alignment: float = 0.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if detections < 1 or not 0 <= threshold <= 1 or alignment < 0:
            raise UserError(
                f"model.detections={detections} model.threshold={threshold} model.alignment={alignment}: "
                "at least 1, from 0 to 1, and at least 0."
            )
        self.detections, self.threshold, self.alignment = detections, threshold, alignment
        self.objects = len(self.spec.classes) - 1
        self.net = self.build(self.spec.shape, (self.objects + 4, *self.spec.shape[1:]))
        height, width = self.spec.shape[1:]
        place = torch.meshgrid(torch.arange(width) + 0.5, torch.arange(height) + 0.5, indexing="xy")
        self.register_buffer("place", torch.stack(place), persistent=False)  # (2, H, W), across and down

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) -> logits of middles (B, kinds, H, W), and boxes (B, H, W, 4) in pixels."""
        heat, reach = self.net(x).float().split([self.objects, 4], 1)
        reach = reach.clamp(-4, 4).exp() * (self.spec.shape[-1] / 8)
        boxes = torch.cat([self.place - reach[:, :2], self.place + reach[:, 2:]], 1)
        return heat + RARE, boxes.movedim(1, 3)

    def loss(self, batch: Boxed) -> dict[str, Tensor]:
        heat, boxes = self.outputs(batch.x)
        there = batch.kinds >= 0  # (B, K)
        number = there.sum().clamp_min(1)
        middle = (batch.boxes[..., :2] + batch.boxes[..., 2:]) / 2
        spread = ((batch.boxes[..., 2:] - batch.boxes[..., :2]).mean(-1) / 6).clamp_min(0.7)
        apart = (self.place - middle[..., None, None]).square().sum(2)
        warmth = torch.exp(-apart / (2 * spread.square())[..., None, None]) * there[..., None, None]  # (B, K, H, W)
        kind = F.one_hot(batch.kinds.clamp_min(0), self.objects).to(warmth)
        goal = (warmth[:, :, None] * kind[..., None, None]).amax(1)
        # The pixel that holds the middle, which may lie on the border between pixels.
        width, height = self.place.shape[2], self.place.shape[1]
        across = middle[..., 0].long().clamp(0, width - 1)
        down = middle[..., 1].long().clamp(0, height - 1)
        picture = torch.arange(len(heat), device=heat.device)[:, None].expand_as(across)
        at = (picture[there], batch.kinds[there], down[there], across[there])
        peak = torch.zeros_like(heat, dtype=torch.bool).index_put(at, torch.ones_like(at[0], dtype=torch.bool))
        p, log_p, log_q = heat.sigmoid(), F.logsigmoid(heat), F.logsigmoid(-heat)
        cold = (1 - goal) ** 4 * p.square() * log_q
        terms = {"heat": -torch.where(peak, (1 - p).square() * log_p, cold).sum() / number}
        closest, owner = warmth.max(1)
        weight = torch.where(closest > 0.3, closest, 0.0)
        index = owner.flatten(1)[..., None].expand(-1, -1, 4)
        target = batch.boxes.gather(1, index).unflatten(1, owner.shape[1:])
        iou = overlaps(boxes[..., None, :], target[..., None, :])[..., 0, 0]
        terms["sizes"] = (weight * (1 - iou)).sum() / weight.sum().clamp_min(1e-6)
        if self.alignment:
            reached = iou.detach()[at[0], at[2], at[3]]
            terms["alignment"] = self.alignment * (p[at] - reached).abs().sum() / number
        return terms

    def detect(self, x: Tensor) -> Detections:
        """x (B, C, H, W) -> the M detections of each picture, the most confident first."""
        heat, boxes = self.outputs(x)
        p = heat.sigmoid()
        peaks = torch.where(F.max_pool2d(p, 3, stride=1, padding=1) == p, p, 0.0)
        pixels = p.shape[2] * p.shape[3]
        scores, place = peaks.flatten(1).topk(min(self.detections, self.objects * pixels))
        chosen = boxes.flatten(1, 2).gather(1, (place % pixels)[..., None].expand(-1, -1, 4))
        return Detections(chosen, scores, place // pixels, scores >= self.threshold)

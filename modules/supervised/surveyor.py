"""Class, instance and depth at every pixel by one network, and the plain multi-task baseline with fixed weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Surveyed
from datamodules.spec import DataSpec
from modules.method import Method

TASKS = ("semantic", "offset", "depth")


class MultiTaskSurvey(Method, ABC):
    """Three losses of one network, in the units of their targets; a subclass says how they are weighed.

    - `semantic`: cross-entropy of the class, mean over pixels, nats.
    - `offset`: |difference| of both components of the offset to the instance's centre, mean over the pixels of
      instances, pixels.
    - `depth`: |difference| of inverse depth, mean over pixels, in its unit.

    The network has one output for each class, two for the offset and one for depth; all before its last layer is
    shared. The outputs that are numbers are multiplied by the spread of their target in the training split, so that the
    network works in units of one. The losses are not: they keep their units.

    Args:
        spec: pictures with masks.
        parts: `net`, `optimizer`, `schedule`, see `Method`.
    """

    batch_type = Surveyed
    kinds = ("image",)
    targets = ("mask",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.classes = len(self.spec.classes)
        self.net = self.build(self.spec.shape, (self.classes + 3, *self.spec.shape[1:]))
        self.register_buffer("units", torch.ones(2))

    @abstractmethod
    def weighed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The three losses by task -> the terms that are descended, by name."""

    def on_fit_start(self) -> None:
        """Take the units from the training split; a continued run has them in its checkpoint."""
        data = self.trainer.datamodule
        rows = data.rows["train"]
        inside = data.columns["segments"][rows] > 0
        offsets = data.columns["offset"][rows].movedim(1, 3)[inside].double()
        depths = data.columns["depth"][rows].double()
        spreads = [part.std(correction=0).clamp_min(1e-12) for part in (offsets, depths)]
        self.units.copy_(torch.stack(spreads))

    def outputs(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, C, H, W) -> logits (B, classes, H, W), offsets (B, 2, H, W) and inverse depth (B, H, W)."""
        logits, offset, depth = self.net(x).float().split([self.classes, 2, 1], 1)
        return logits, self.units[0] * offset, self.units[1] * depth.squeeze(1)

    def losses(self, batch: Surveyed) -> dict[str, Tensor]:
        """The three losses, scalars by task."""
        logits, offset, depth = self.outputs(batch.x)
        inside = (batch.segments > 0)[:, None].expand_as(offset)
        apart = (offset - batch.offset).abs()
        return {
            "semantic": F.cross_entropy(logits, batch.segments),
            "offset": (apart * inside).sum() / inside.sum().clamp_min(1),
            "depth": (depth - batch.depth).abs().mean(),
        }

    def loss(self, batch: Surveyed) -> dict[str, Tensor]:
        return self.weighed(self.losses(batch))

    def predict_log_proba_map(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> log probabilities (B, classes, H, W)."""
        return self.outputs(x)[0].log_softmax(1)

    def predict_geometry(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, C, H, W) -> offsets (B, 2, H, W) and inverse depth (B, H, W), in the units of the data."""
        return self.outputs(x)[1:]


class WeightedSurvey(MultiTaskSurvey):
    """The three losses of `MultiTaskSurvey`, added up with weights that are given: sum_i w_i L_i.

    With all weights but one 0 it is a network for that task alone.

    Args:
        spec: pictures with masks.
        semantic: weight of the cross-entropy, at least 0, as are the others.
        offset: of the offsets' error.
        depth: of the inverse depth's error.
        parts: the arguments of `MultiTaskSurvey`.

    Raises:
        UserError: a negative weight, or none above 0.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        semantic: float = 1.0,
        offset: float = 1.0,
        depth: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.weights = dict(zip(TASKS, (semantic, offset, depth), strict=True))
        if min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise UserError(
                f"model.semantic={semantic} model.offset={offset} model.depth={depth}: at least 0, not all of them 0."
            )

    def weighed(self, losses: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {task: self.weights[task] * loss for task, loss in losses.items()}

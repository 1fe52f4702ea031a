"""The plain segmenter: cross-entropy at every pixel, and its two usual variants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.spec import DataSpec
from modules.method import Method


class SoftmaxSegmenter(Method):
    """Class probabilities p = softmax(net(x)) at every pixel, trained by cross-entropy: the baseline for masks.

        loss = mean over pixels of -sum_c q_c (1 - p_c)^focus ln p_c

    with q the one-hot label, mixed with the uniform law by `label_smoothing` (Szegedy et al. 2016). `focus` 0 is the
    cross-entropy, above 0 the focal loss (Lin et al. 2017, equation 4, without its class weights).

    A subclass with other soft labels overrides `soft_labels`, one with a further term `loss`.

    Args:
        spec: pictures with a mask.
        label_smoothing: weight of the uniform law, in [0, 1).
        focus: gamma of the focal loss, at least 0.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a weight out of range.
    """

    batch_type = Segmented
    kinds = ("image",)
    targets = ("mask",)
    otherwise = "for a class of the whole picture: model=supervised/classifier"

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], label_smoothing: float = 0.0, focus: float = 0.0, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing={label_smoothing}: it lies in [0, 1).")
        if focus < 0:
            raise UserError(f"model.focus={focus}: at least 0.")
        self.label_smoothing, self.focus = label_smoothing, focus
        self.classes = len(self.spec.classes)
        self.net = self.build(self.spec.shape, (self.classes, *self.spec.shape[1:]))

    def one_hot(self, segments: Tensor) -> Tensor:
        """Labels int64 (B, H, W) -> float (B, classes, H, W)."""
        return F.one_hot(segments, self.classes).movedim(3, 1).float()

    def soft_labels(self, segments: Tensor) -> Tensor:
        """Labels int64 (B, H, W) -> what the cross-entropy is taken with, float (B, classes, H, W)."""
        return smoothed(self.one_hot(segments), self.label_smoothing)

    def cross_entropy(self, logits: Tensor, segments: Tensor) -> Tensor:
        """Logits (B, classes, H, W) and labels int64 (B, H, W) -> the loss, a scalar."""
        log_p = logits.float().log_softmax(1)
        weighted = log_p if self.focus == 0 else (1 - log_p.exp()).clamp_min(1e-12) ** self.focus * log_p
        return -(self.soft_labels(segments) * weighted).sum(1).mean()

    def loss(self, batch: Segmented) -> Tensor | dict[str, Tensor]:
        return self.cross_entropy(self.net(batch.x), batch.segments)

    def predict_log_proba_map(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> log probabilities (B, classes, H, W)."""
        return self.net(x).float().log_softmax(1)


def smoothed(labels: Tensor, share: float) -> Tensor:
    """Labels (B, classes, H, W) mixed with the uniform law, of that share."""
    return labels if share == 0 else (1 - share) * labels + share / labels.shape[1]

"""The plain classifier: cross-entropy on whatever network the data calls for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method


class SoftmaxClassifier(Method):
    """Class probabilities softmax(net(x)), trained by cross-entropy: the baseline for any labelled source.

    loss = -mean_i sum_c q_ic log softmax(net(x_i))_c with q the one-hot target, mixed with the uniform law by
    `label_smoothing` (Szegedy et al. 2016).

    Args:
        spec: labelled data with at least two classes.
        label_smoothing: weight of the uniform law, in [0, 1).
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no classes, or a weight out of range.
    """

    batch_type = Labelled
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"

    def __init__(self, spec: DataSpec | Mapping[str, Any], label_smoothing: float = 0.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not 0 <= label_smoothing < 1:
            raise UserError(f"model.label_smoothing={label_smoothing}: it lies in [0, 1).")
        self.label_smoothing = label_smoothing
        self.net = self.build(self.spec.shape, (len(self.spec.classes),))

    def loss(self, batch: Labelled) -> Tensor:
        return F.cross_entropy(self.net(batch.x), batch.y, label_smoothing=self.label_smoothing)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        return self.net(x).float().log_softmax(1)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the network's features before its last layer (B, D)."""
        return self.net.embed(x)

"""Forward-Forward: every layer tells records with their label from records with a wrong one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.layered import Layered


class ForwardForward(Method):
    """A classifier whose layers learn one by one that goodness is high for right labels and low for wrong ones.

    The label is part of the input, one-hot. With h_l = f(W_l n(h_{l-1}) + b_l), n(h) = h / rms(h), no gradient between
    layers, and the goodness g_l = mean of h_l^2 over its units,

        loss = sum_l mean over records of log(1 + exp(threshold - g_l(right))) + log(1 + exp(g_l(wrong) - threshold))

    where the wrong label is drawn evenly from the others. A class's score is the sum of g_l over all layers but the
    first one (of the only one, if there is but one).

    Hinton 2022, "The Forward-Forward Algorithm", which other ways of learning without backpropagation are compared
    with; written from memory.

    Deviations: (1) the label has inputs of its own instead of the first pixels; (2) wrong labels are drawn evenly;
    (3) scores are made probabilities by a softmax, which is not calibrated.

    Args:
        spec: labelled data with at least two classes.
        threshold: of the mean square of a layer's units.
        parts: `net` (a `Layered` one), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a threshold that is not positive, or a net that is no stack of layers.
    """

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"

    def __init__(self, spec: DataSpec | Mapping[str, Any], threshold: float = 2.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if threshold <= 0:
            raise UserError(f"model.threshold={threshold}: it must be above 0.")
        self.threshold, self.classes = threshold, len(self.spec.classes)
        self.net = self.build((self.spec.dimensions + self.classes,), (1,))
        if not isinstance(self.net, Layered):
            raise UserError("Forward-Forward needs a net that is a plain stack of layers.", "net=layered")
        self.net.last.requires_grad_(False)  # there is no output to learn

    def goodness(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, ...), y int64 (B,) -> g_l (B, depth), whose gradient stays in its layer."""
        h, found = torch.cat([x.flatten(1), F.one_hot(y, self.classes).to(x.dtype)], 1), []
        for layer in self.net.layers:
            h = self.net.activation(layer(F.rms_norm(h.detach(), h.shape[1:])))
            found.append(h.square().mean(1))
        return torch.stack(found, 1)

    def loss(self, batch: Labelled) -> Tensor:
        wrong = (batch.y + torch.randint(1, self.classes, batch.y.shape, device=batch.y.device)) % self.classes
        labels = torch.cat([batch.y, wrong])
        right, other = self.goodness(torch.cat([batch.x, batch.x]), labels).chunk(2)
        return (F.softplus(self.threshold - right) + F.softplus(other - self.threshold)).mean(0).sum()

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log softmax of the classes' scores (B, classes)."""
        labels = torch.arange(self.classes, device=x.device).repeat(len(x))
        found = self.goodness(x.repeat_interleave(self.classes, 0), labels)
        scores = found[:, min(1, found.shape[1] - 1) :].sum(1)
        return scores.view(len(x), self.classes).float().log_softmax(1)

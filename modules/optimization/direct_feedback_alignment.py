"""Direct feedback alignment: every layer hears the output's error through a fixed random matrix of its own."""

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

RULES = ("dfa", "backprop", "shallow")


class DirectFeedbackAlignment(Method):
    """A classifier whose hidden layers learn from random projections of the error at the output.

    With a_l = W_l h_{l-1} + b_l, h_l = f(a_l) and e = softmax(out) - onehot(y), the gradient of the cross-entropy by
    the weights of layer l is delta_l h_{l-1}', where

        delta_l = (B_l e) * f'(a_l)             `dfa`
        delta_l = (W_{l+1}' delta_{l+1}) * f'(a_l)    `backprop`, with W' e above the highest hidden layer
        delta_l = 0                             `shallow`: hidden layers keep their random weights

    and the last layer has its own gradient always. B_l is fixed and random: the first width_l columns of one matrix
    for all layers, whose entries have the variance 1 / (width_l classes), or 1 without `normalize`. The loss has the
    value of the cross-entropy, and autograd finds these gradients in it, so that optimizers, clipping, accumulation and
    precision are as ever.

    A bottleneck is `free` units of the middle hidden layer that learn, while the others keep their random weights: less
    freedom to align at the same width.

    Launay, Poli and Krzakala 2019, "Principled Training of Neural Networks with Direct Feedback Alignment", by the
    abstract and the authors' code (lightonai/principled-dfa-training: one matrix for all layers and its scale, tanh,
    the gradients whose cosine is the alignment, a bottleneck of masked gradients).

    Deviations: (1) fully connected nets without batch normalisation or dropout; (2) no pre-alignment of initial
    weights, an option of the code; (3) a bottleneck masks whole units, in the code single weights as often.

    Args:
        spec: labelled data with at least two classes.
        rule: `dfa`, `backprop` or `shallow`.
        normalize: whether each B_l is scaled, as in the code.
        free: units of the middle hidden layer (the lower of two) that learn; None: all.
        parts: `net` (a `Layered` one), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown rule, a net that is no stack of layers, or more free units than there are.
    """

    feedback: Tensor

    batch_type = Labelled
    kinds = ("image", "vector")
    targets = ("class",)
    otherwise = "for a real target: model=supervised/regressor"
    papers = ("launay2019principled",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        rule: str = "dfa",
        normalize: bool = True,
        free: int | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if rule not in RULES:
            raise UserError(f"model.rule={rule}: there is no such rule.", f"one of {', '.join(RULES)}")
        self.rule, self.normalize = rule, normalize
        classes = len(self.spec.classes)
        self.net = self.build(self.spec.shape, (classes,))
        if not isinstance(self.net, Layered):
            raise UserError("direct feedback alignment needs a net that is a plain stack of layers.", "net=layered")
        self.middle = (len(self.net.widths) - 1) // 2
        units = self.net.widths[self.middle]
        self.free = units if free is None else free
        if not 1 <= self.free <= units:
            raise UserError(f"model.free={free}: from 1 to {units} units of the middle layer can learn.")
        self.register_buffer("feedback", torch.randn(classes, max(self.net.widths)))
        self.net.layers.requires_grad_(rule != "shallow")

    def projected(self, e: Tensor) -> list[Tensor]:
        """Errors e (B, classes) -> B_l e (B, width_l) of each hidden layer."""
        whole = e @ self.feedback.to(e.dtype)
        widths = self.net.widths
        scales = [(width * e.shape[1]) ** -0.5 if self.normalize else 1.0 for width in widths]
        return [whole[:, :width] * scale for width, scale in zip(widths, scales, strict=True)]

    def loss(self, batch: Labelled) -> Tensor:
        local, h, hidden = self.rule != "backprop", batch.x.flatten(1), []
        for place, layer in enumerate(self.net.layers):
            a = layer(h.detach() if local else h)
            if place == self.middle and self.free < a.shape[1]:
                a = torch.cat([a[:, : self.free], self.fixed(layer, h, local)], 1)
            h = self.net.activation(a)
            hidden.append(h)
        logits = self.net.last(h.detach() if local else h)
        value = F.cross_entropy(logits, batch.y)
        if self.rule != "dfa":
            return value
        pushes = self.projected(self.error(logits.detach(), batch.y) / len(batch.y))
        push = torch.stack([(h * pushed).sum() for h, pushed in zip(hidden, pushes, strict=True)]).sum()
        return value + (push - push.detach())

    def fixed(self, layer: Any, h: Tensor, local: bool) -> Tensor:
        """The units of a layer beyond the free ones, whose own weights do not learn (B, units - free)."""
        weight, bias = layer.weight[self.free :].detach(), layer.bias[self.free :].detach()
        return F.linear(h.detach() if local else h, weight, bias)

    @staticmethod
    def error(logits: Tensor, y: Tensor) -> Tensor:
        """Logits (B, classes), y int64 (B,) -> softmax - onehot (B, classes), float."""
        p = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
        p = p.softmax(1)
        return p - F.one_hot(y, p.shape[1]).to(p.dtype)

    @torch.no_grad()
    def alignment(self, x: Tensor, y: Tensor) -> Tensor:
        """x (B, ...), y int64 (B,) -> cosine of B_l e and backpropagation's gradient by h_l (B, depth), per record."""
        h, hidden = x.flatten(1), []
        for layer in self.net.layers:
            h = self.net.activation(layer(h))
            hidden.append(h)
        e = F.normalize(self.error(self.net.last(h), y), eps=1e-30)  # small errors would drown in cosine's own eps
        up, cosines = e @ self.net.last.weight, []
        weights = [layer.weight for layer in self.net.layers]
        for h, weight, random in zip(hidden[::-1], weights[::-1], self.projected(e)[::-1], strict=True):
            cosines.append(F.cosine_similarity(up, random, eps=1e-30))
            up = F.normalize((up * self.net.slope(h)) @ weight, eps=1e-30)
        return torch.stack(cosines[::-1], 1)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> log probabilities (B, classes)."""
        return self.net(x).float().log_softmax(1)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the highest hidden layer (B, width)."""
        return self.net.embed(x)

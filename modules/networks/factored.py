"""Linear layers as sums of rank-one parts, some for all records and some for one class alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.dit import DiT


class Gate:
    """The classes of the records that a network is at: it sets them once for all its layers.

    Attributes:
        y: int64 (B,), -1 for any class; None: any for all.
    """

    y: Tensor | None = None


class Factored(nn.Module):
    """A linear layer W_y = sum over parts i of all, and of class y, of s_i u_i v_i^T.

    Only the parts of a record's own class are computed for it, so that the cost does not grow with the classes.

    Args:
        inputs: of the layer.
        outputs: of the layer.
        gate: says the class of each record.
        common: parts that all records share (learngenes).
        own: parts of each class (tailors).
        classes: how many.
    """

    def __init__(self, inputs: int, outputs: int, gate: Gate, common: int, own: int, classes: int) -> None:
        super().__init__()
        self.inputs, self.outputs, self.gate, self.own = inputs, outputs, gate, own
        rank = common + own
        self.down = nn.Parameter(torch.randn(common, inputs) / inputs**0.5)
        self.up = nn.Parameter(torch.randn(common, outputs) / rank**0.5)
        self.scale = nn.Parameter(torch.full((common,), 3**-0.5))  # torch's own variance of a linear layer's weights
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.spread = rank**-0.5
        self.tailor(classes)

    def tailor(self, classes: int) -> None:
        """New parts, at random, for each of `classes` classes."""
        like = self.down
        self.own_down = nn.Parameter(like.new_empty(classes, self.own, self.inputs).normal_(std=self.inputs**-0.5))
        self.own_up = nn.Parameter(like.new_empty(classes, self.own, self.outputs).normal_(std=self.spread))
        self.own_scale = nn.Parameter(like.new_full((classes, self.own), 3**-0.5))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, ..., inputs) -> (B, ..., outputs)."""
        out = torch.addmm(self.bias, x.flatten(0, -2) @ self.down.mT * self.scale, self.up)
        out = out.unflatten(0, x.shape[:-1])
        y = self.gate.y
        if y is None:
            return out
        chosen = y.clamp(min=0)
        scale = self.own_scale[chosen] * (y >= 0)[:, None]
        rows = x.flatten(1, -2) if x.ndim > 2 else x[:, None]
        parts = torch.bmm(rows, self.own_down[chosen].mT) * scale[:, None]
        return out + torch.bmm(parts, self.own_up[chosen]).view_as(out)


class FactoredDiT(DiT):
    """A DiT whose attention and hidden layers are made of parts that all classes share and parts of one class.

    What a record's class has nothing to do with goes into the shared parts, which can be carried over to other classes.
    A record without a class sees the shared parts alone.

    Xie et al. 2024, "KIND: Knowledge Integration and Diversion in Diffusion Models": learngenes and tailors behind a
    class gate.

    Deviations: (1) norms' modulations, first and last layer are whole; (2) U and V are not kept orthogonal.

    Args:
        in_shape: see `DiT`.
        out_shape: see `DiT`.
        common: parts of each layer that all classes share.
        own: parts of each layer for each class.
        classes: how many; at least one.
        parts: the other arguments of `DiT`.

    Raises:
        UserError: no parts, or no classes.
    """

    papers = ("xie2024kind",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        common: int = 40,
        own: int = 2,
        classes: int = 0,
        **parts: Any,
    ) -> None:
        super().__init__(in_shape, out_shape, classes=classes, **parts)
        if common < 1 or own < 1:
            raise UserError(f"net.common={common} net.own={own}: at least 1 of both.")
        if not classes:
            raise UserError(
                "net=factored_dit has parts for each class, and this model knows no classes.",
                "model=generative/conditional_diffusion",
            )
        self.gate = Gate()
        for block in self.blocks:
            for holder, name in ((block, "inward"), (block, "outward"), (block.mlp, "0"), (block.mlp, "2")):
                layer = getattr(holder, name)
                factored = Factored(layer.in_features, layer.out_features, self.gate, common, own, classes)
                setattr(holder, name, factored)

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """See `DiT`."""
        self.gate.y = y
        try:
            return super().forward(x, t, y)
        finally:
            self.gate.y = None  # no batch is kept, neither in memory nor in a copy of the network

"""A linear network."""

from __future__ import annotations

import math

from torch import Tensor, nn


class Linear(nn.Module):
    """Flattens x and gives W x + b, from W = 0 and b = 0: convex losses of it are convex in its weights.

    With a softmax classifier it is logistic regression.

    Args:
        in_shape: shape of one x.
        out_shape: shape of one output.
        bias: whether there is a b.
    """

    kinds = ("image", "vector")

    def __init__(self, in_shape: tuple[int, ...], out_shape: tuple[int, ...], bias: bool = True) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.features = math.prod(in_shape)
        self.last = nn.Linear(self.features, math.prod(out_shape), bias=bias)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> x, flattened (B, D)."""
        return x.flatten(1)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> (B, *out_shape)."""
        return self.last(self.embed(x)).unflatten(1, self.out_shape)

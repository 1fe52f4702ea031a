"""Plain stack of layers, for methods that assign credit to each layer by itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from compendium.errors import UserError

ACTIVATIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]] = {
    "tanh": (torch.tanh, lambda h: 1 - h * h),
    "relu": (torch.relu, lambda h: (h > 0).to(h.dtype)),
    "sigmoid": (torch.sigmoid, lambda h: h * (1 - h)),
    "identity": (lambda a: a, torch.ones_like),
}
"""Name -> h = f(a), and f'(a) as a function of h."""


class Layered(nn.Module):
    """h_0 = x, h_l = f(W_l h_{l-1} + b_l) for l = 1..depth, out = W h_depth + b: no skips, no normalisation.

    Args:
        in_shape: shape of one x.
        out_shape: shape of one output.
        width: units of a hidden layer.
        depth: number of hidden layers, at least 1.
        bottleneck: units of the middle hidden layer (the lower of two); None: as many as in the others.
        activation: f, one of `tanh`, `relu`, `sigmoid`, `identity`.

    Raises:
        UserError: no layers, no units, or an unknown activation.
    """

    kinds = ("image", "vector")

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int = 256,
        depth: int = 3,
        bottleneck: int | None = None,
        activation: str = "tanh",
    ) -> None:
        super().__init__()
        if depth < 1 or width < 1 or (bottleneck is not None and bottleneck < 1):
            raise UserError(f"net.depth={depth} net.width={width} net.bottleneck={bottleneck}: at least 1 of each.")
        if activation not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UserError(f"net.activation={activation}: there is none of that name.", f"one of {known}")
        self.out_shape = tuple(out_shape)
        self.widths = [width] * depth
        self.widths[(depth - 1) // 2] = width if bottleneck is None else bottleneck
        sizes = [math.prod(in_shape), *self.widths]
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in pairwise(sizes))
        self.features = self.widths[-1]
        self.last = nn.Linear(self.features, math.prod(out_shape))
        self.shape = activation

    def activation(self, a: Tensor) -> Tensor:
        """h = f(a)."""
        return ACTIVATIONS[self.shape][0](a)

    def slope(self, h: Tensor) -> Tensor:
        """f'(a) from h = f(a)."""
        return ACTIVATIONS[self.shape][1](h)

    def stages(self) -> list[tuple[nn.Module]]:
        return [(layer,) for layer in self.layers]

    def enter(self, x: Tensor) -> Tensor:
        return x.flatten(1)

    def through(self, stage: int, state: Tensor) -> Tensor:
        return self.activation(self.layers[stage](state))

    def leave(self, state: Tensor) -> Tensor:
        return self.last(state).unflatten(1, self.out_shape)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> features before the last layer (B, widths[-1])."""
        h = self.enter(x)
        for stage in range(len(self.layers)):
            h = self.through(stage, h)
        return h

    def forward(self, x: Tensor) -> Tensor:
        """x (B, *in_shape) -> (B, *out_shape)."""
        return self.leave(self.embed(x))

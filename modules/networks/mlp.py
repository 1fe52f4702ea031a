"""Multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from modules.networks import residual
from modules.networks.time import Conditioning


class MLP(nn.Module):
    """Flattens, then `depth` hidden layers with SiLU; hidden layers after the first are residual.

    Args:
        in_shape: shape of one x.
        out_shape: shape of one output.
        width: units of a hidden layer.
        depth: number of hidden layers, at least 1.
        time: whether `forward` also takes t (B,), which is added to every hidden layer.
        classes: how many classes y (B,) `forward` also takes, added likewise; 0 for none.
        norm: config of a normalisation before every activation, its channels left open (`net=normalised_mlp`).
    """

    kinds = ("image", "vector")

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        width: int = 256,
        depth: int = 3,
        time: bool = False,
        classes: int = 0,
        norm: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.features = width
        self.first = nn.Linear(math.prod(in_shape), width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, math.prod(out_shape))
        self.condition = Conditioning(width, time, classes)
        self.activation = nn.SiLU()
        self.norms = nn.ModuleList(residual.norm(width, norm) for _ in range(depth)) if norm else None

    def stages(self) -> list[tuple[nn.Module, ...]]:
        norms = list(self.norms)[1:] if self.norms else []
        return [(layer, *norms[stage : stage + 1]) for stage, layer in enumerate(self.hidden)]

    def enter(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> tuple[Tensor, Tensor | float]:
        shift = self.condition(t, y)
        h = self.first(x.flatten(1)) + shift
        return self.activation(self.norms[0](h) if self.norms else h), shift

    def through(self, stage: int, state: tuple[Tensor, Tensor | float]) -> tuple[Tensor, Tensor | float]:
        h, shift = state
        inner = self.hidden[stage](h + shift)
        return h + self.activation(self.norms[stage + 1](inner) if self.norms else inner), shift

    def leave(self, state: tuple[Tensor, Tensor | float]) -> Tensor:
        return self.last(state[0]).unflatten(1, self.out_shape)

    def embed(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, *in_shape) -> features before the last layer (B, width)."""
        state = self.enter(x, t, y)
        for stage in range(len(self.hidden)):
            state = self.through(stage, state)
        return state[0]

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, *in_shape), t (B,) if `time`, y int64 (B,) if `classes`, -1 for any -> (B, *out_shape)."""
        return self.last(self.embed(x, t, y)).unflatten(1, self.out_shape)

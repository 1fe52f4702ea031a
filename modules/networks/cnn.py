"""Residual convolutional network for images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from modules.networks import residual


class CNN(nn.Module):
    """Residual blocks at halving resolutions, global average, linear layer.

    Args:
        in_shape: (channels, height, width).
        out_shape: shape of one output.
        channels: channels per resolution; each further one halves height and width.
        blocks: residual blocks per resolution.
        norm: config of the normalisation, with its channels left open (`net=normalised_cnn`); None for groups.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, ...],
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        norm: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.features = channels[-1]
        layers: list[nn.Module] = [nn.Conv2d(in_shape[0], channels[0], 3, padding=1)]
        width = channels[0]
        for level, wider in enumerate(channels):
            if level:
                layers.append(nn.Conv2d(width, width, 3, stride=2, padding=1))
            for _ in range(blocks):
                layers.append(residual.ResidualBlock(width, wider, kind=norm))
                width = wider
        self.body = nn.Sequential(*layers, residual.norm(width, norm), nn.SiLU())
        self.last = nn.Linear(width, math.prod(out_shape))

    def stages(self) -> list[tuple[nn.Module]]:
        return [(part,) for part in self.body]

    def enter(self, x: Tensor) -> Tensor:
        return x

    def through(self, stage: int, state: Tensor) -> Tensor:
        return self.body[stage](state)

    def leave(self, state: Tensor) -> Tensor:
        return self.last(state.mean(dim=(2, 3))).unflatten(1, self.out_shape)

    def embed(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> features before the last layer (B, channels[-1])."""
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, *out_shape)."""
        return self.leave(self.body(x))

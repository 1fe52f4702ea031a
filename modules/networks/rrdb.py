"""Residual-in-residual dense blocks, from coarse pictures to fine ones."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError

RESIDUAL = 0.2
"""What a block's output is multiplied by before it is added (Wang et al. 2018)."""
SLOPE = 0.2
"""Of the leaky ReLU on negative values, as there."""


class DenseBlock(nn.Module):
    """Convolutions that each see the outputs of all before; x + 0.2 times the last one's.

    Args:
        channels: of input and output.
        growth: channels that each convolution but the last adds.
        layers: number of convolutions.
    """

    def __init__(self, channels: int, growth: int, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(channels + n * growth, growth if n < layers - 1 else channels, 3, padding=1)
            for n in range(layers)
        )

    def forward(self, x: Tensor) -> Tensor:
        """x (B, channels, H, W) -> (B, channels, H, W)."""
        seen = x
        for layer in self.layers[:-1]:
            seen = torch.cat([seen, F.leaky_relu(layer(seen), SLOPE)], 1)
        return x + RESIDUAL * self.layers[-1](seen)


class RRDBNet(nn.Module):
    """The generator of ESRGAN: a trunk of residual-in-residual dense blocks, then nearest-neighbour steps of 2.

    Wang et al. 2018, "ESRGAN: Enhanced Super-Resolution Generative Adversarial Networks", section 3.1, from memory. The
    output is added to the bilinear enlargement of x, and its last convolution starts at zero.

    Deviations: (1) the enlargement is ours: the network begins as interpolation. (2) Channels are dropped out as a
    whole after each block of the trunk, with or without training, for Monte Carlo dropout (Adapa et al. 2024).

    Args:
        in_shape: (C, H, W).
        out_shape: (C, f H, f W) with f a power of 2.
        channels: width of the trunk (the paper: 64).
        growth: see `DenseBlock` (32).
        blocks: residual-in-residual blocks (23).
        dense: dense blocks in each (3).
        layers: convolutions in a dense block (5).
        dropout: probability with which a channel is dropped, in [0, 1).

    Raises:
        UserError: another factor, a probability out of range.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        channels: int = 64,
        growth: int = 32,
        blocks: int = 23,
        dense: int = 3,
        layers: int = 5,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.factor = out_shape[1] // in_shape[1]
        if self.factor & (self.factor - 1) or out_shape[1] != self.factor * in_shape[1]:
            raise UserError(f"net=rrdb enlarges by powers of 2, not from {in_shape[1]} to {out_shape[1]} pixels.")
        if not 0 <= dropout < 1:
            raise UserError(f"net.dropout={dropout}: it lies in [0, 1).")
        self.dropout = dropout
        self.first = nn.Conv2d(in_shape[0], channels, 3, padding=1)
        self.trunk = nn.ModuleList(
            nn.Sequential(*(DenseBlock(channels, growth, layers) for _ in range(dense))) for _ in range(blocks)
        )
        self.joined = nn.Conv2d(channels, channels, 3, padding=1)
        steps = self.factor.bit_length() - 1
        self.steps = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in range(steps))
        self.last = nn.Conv2d(channels, out_shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, f H, f W)."""
        start = h = self.first(x)
        for block in self.trunk:
            h = h + RESIDUAL * (block(h) - h)
            if self.dropout:
                h = F.dropout2d(h, self.dropout, training=True)
        h = start + self.joined(h)
        for step in self.steps:
            h = F.leaky_relu(step(F.interpolate(h, scale_factor=2.0, mode="nearest")), SLOPE)
        enlarged = F.interpolate(x, scale_factor=float(self.factor), mode="bilinear", align_corners=False)
        return enlarged + self.last(h)

"""The residual networks of R3GAN: no normalisation, and every block begins as the identity."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError

Layer = TypeVar("Layer", nn.Linear, nn.Conv2d)

BASE = 4
"""Height and width of the coarsest resolution."""
SLOPE = 0.2
"""Of the leaky ReLU on negative values, Huang et al. 2024."""


def residual(
    in_shape: tuple[int, ...],
    out_shape: tuple[int, ...],
    channels: Sequence[int] = (64, 32),
    blocks: int = 1,
    groups: int = 8,
) -> nn.Module:
    """The network of one player: from noise to images, or from images to scores, each the other's mirror image.

    Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline", section 3 and the authors' code.

    Deviations: bilinear interpolation as PyTorch has it, in the place of filtered resampling with [1, 2, 1].

    Args:
        in_shape: (latent,) or (C, H, W).
        out_shape: (C, H, W) or (scores,).
        channels: per resolution, from 4 x 4 upwards; each further one doubles height and width.
        blocks: residual blocks per resolution.
        groups: of the 3 x 3 convolutions; the channels are multiples of it.

    Raises:
        UserError: images of another size than the resolutions lead to, channels that are no multiples of `groups`.
    """
    image = out_shape if len(out_shape) == 3 else in_shape
    side = BASE * 2 ** (len(channels) - 1)
    if tuple(image[1:]) != (side, side):
        raise UserError(
            f"net.channels={list(channels)} are {len(channels)} resolutions, for images of {side} x {side}, "
            f"not {image[1]} x {image[2]}.",
            "each further one doubles the side, which begins at 4",
        )
    if any(width % groups for width in channels):
        raise UserError(f"net.channels={list(channels)}: all of them must be multiples of net.groups={groups}.")
    kind = Generator if image is out_shape else Discriminator
    return kind(in_shape, out_shape, channels, blocks, groups)


class Generator(nn.Module):
    """z (B, latent) -> a learned pattern at 4 x 4, weighted by channel; blocks and doublings; images (B, C, H, W)."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: Sequence[int],
        blocks: int,
        groups: int,
    ) -> None:
        super().__init__()
        total = blocks * len(channels)
        self.pattern = nn.Parameter(torch.randn(channels[0], BASE, BASE))
        self.weigh = linear(in_shape[0], channels[0])
        self.stages = nn.ModuleList(stage(width, blocks, groups, total) for width in channels)
        self.widen = nn.ModuleList(convolution(a, b, 1) for a, b in pairwise(channels))
        self.last = convolution(channels[-1], out_shape[0], 1)

    def forward(self, z: Tensor) -> Tensor:
        h = self.stages[0](self.pattern * self.weigh(z)[:, :, None, None])
        for widen, blocks in zip(self.widen, self.stages[1:], strict=True):
            h = blocks(F.interpolate(widen(h), scale_factor=2.0, mode="bilinear", align_corners=False))
        return self.last(h)


class Discriminator(nn.Module):
    """Images (B, C, H, W) -> blocks and halvings to 4 x 4; one weight per place and channel; scores (B, scores)."""

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        channels: Sequence[int],
        blocks: int,
        groups: int,
    ) -> None:
        super().__init__()
        total, fine = blocks * len(channels), list(reversed(channels))
        self.first = convolution(in_shape[0], fine[0], 1)
        self.stages = nn.ModuleList(stage(width, blocks, groups, total) for width in fine)
        self.narrow = nn.ModuleList(convolution(a, b, 1) for a, b in pairwise(fine))
        self.gather = convolution(fine[-1], fine[-1], BASE, groups=fine[-1], padding=0)
        self.last = linear(fine[-1], out_shape[0])

    def forward(self, x: Tensor) -> Tensor:
        h = self.stages[0](self.first(x))
        for narrow, blocks in zip(self.narrow, self.stages[1:], strict=True):
            h = blocks(narrow(F.interpolate(h, scale_factor=0.5, mode="bilinear", align_corners=False)))
        return self.last(self.gather(h).flatten(1))


class Block(nn.Module):
    """x + W3 f(W2 f(W1 x)): grouped 3 x 3 convolutions W2 on twice as many channels, W1 and W3 mix channels.

    Fixup initialisation (Zhang et al. 2019): W3 begins at zero, W1 and W2 are scaled by L^(-1/4), L blocks in all.
    """

    def __init__(self, width: int, groups: int, total: int) -> None:
        super().__init__()
        inner, gain = 2 * width, total**-0.25 * nn.init.calculate_gain("leaky_relu", SLOPE)
        self.layers = nn.Sequential(
            convolution(width, inner, 1, gain=gain),
            BiasedActivation(inner),
            convolution(inner, inner, 3, gain=gain, groups=groups, padding=1),
            BiasedActivation(inner),
            convolution(inner, width, 1, gain=0.0),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class BiasedActivation(nn.Module):
    """Leaky ReLU of x + bias, one bias per channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(x + self.bias, SLOPE)


def stage(width: int, blocks: int, groups: int, total: int) -> nn.Sequential:
    """The blocks of one resolution."""
    return nn.Sequential(*(Block(width, groups, total) for _ in range(blocks)))


def convolution(channels_in: int, channels_out: int, kernel: int, gain: float = 1.0, **options: int) -> nn.Conv2d:
    """Without bias; weights N(0, gain^2 / fan-in)."""
    return scaled(nn.Conv2d(channels_in, channels_out, kernel, bias=False, **options), gain)


def linear(features_in: int, features_out: int) -> nn.Linear:
    """Without bias; weights N(0, 1 / fan-in)."""
    return scaled(nn.Linear(features_in, features_out, bias=False), 1.0)


def scaled(layer: Layer, gain: float) -> Layer:
    """The layer, with weights drawn from N(0, gain^2 / fan-in)."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    return layer

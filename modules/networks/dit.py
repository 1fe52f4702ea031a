"""Transformer over patches of an image, for fields."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.time import Conditioning


class DiT(nn.Module):
    """Patches as tokens, blocks whose norms are scaled and shifted by time and class, starting as the identity.

    Peebles and Xie 2023, "Scalable Diffusion Models with Transformers": the adaLN-Zero block of section 3.2, fixed
    sine-cosine positions; the last layer starts at zero, and so does the field.

    Args:
        in_shape: (channels, height, width), divisible by `patch`.
        out_shape: (channels, height, width) of the same height and width.
        patch: side of a patch.
        width: of a token; divisible by 4 and by `heads`.
        depth: number of blocks.
        heads: of each attention.
        time: whether `forward` also takes t (B,).
        classes: how many classes y (B,) `forward` also takes; 0 for none.

    Raises:
        UserError: sizes that do not divide.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        patch: int = 2,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        time: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        if in_shape[1] % patch or in_shape[2] % patch:
            raise UserError(f"net.patch={patch} does not divide pictures of {in_shape[1]} x {in_shape[2]}.")
        if width % heads or width % 4:
            raise UserError(f"net.width={width}: divisible by 4 and by net.heads={heads}.")
        self.patch, self.rows, self.columns = patch, in_shape[1] // patch, in_shape[2] // patch
        self.out_channels = out_shape[0]
        self.tokens = nn.Linear(in_shape[0] * patch**2, width)
        self.register_buffer("positions", positions(self.rows, self.columns, width), persistent=False)
        self.condition = Conditioning(width, time, classes)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(width, 2 * width)
        self.last = nn.Linear(width, out_shape[0] * patch**2)
        for layer in (self.modulation, self.last):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,) if `time`, y int64 (B,) if `classes`, -1 for any -> (B, *out_shape)."""
        h, c = self.read(x), self.conditioned(len(x), t, y)
        for block in self.blocks:
            h = block(h, c)
        return self.write(h, c)

    def read(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> its patches with their positions (B, T, width)."""
        return self.tokens(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)) + self.positions

    def conditioned(self, n: int, t: Tensor | None, y: Tensor | None) -> Tensor:
        """What n records are conditioned on, (n, width) or (1, width) for all."""
        c = self.condition(t, y)
        return F.silu(c if isinstance(c, Tensor) else self.last.weight.new_zeros(n, self.last.in_features))

    def write(self, h: Tensor, c: Tensor) -> Tensor:
        """Patches (B, T, width), c (B, width) -> (B, *out_shape)."""
        scale, shift = self.modulation(c)[:, None].chunk(2, dim=2)
        h = self.last(self.norm(h) * (1 + scale) + shift)
        return F.fold(
            h.transpose(1, 2), (self.rows * self.patch, self.columns * self.patch), self.patch, stride=self.patch
        )


class Block(nn.Module):
    """Attention and a hidden layer of 4 widths, scaled, shifted and gated by the conditioning; gates start at 0."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.inward = nn.Linear(width, 3 * width)
        self.outward = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(approximate="tanh"), nn.Linear(4 * width, width))
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.modulation.weight)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, c: Tensor) -> Tensor:
        """x (B, T, width), c (B, width) -> (B, T, width)."""
        scale, shift, gate, scale_mlp, shift_mlp, gate_mlp = self.modulation(c)[:, None].chunk(6, dim=2)
        h = self.norm(x) * (1 + scale) + shift
        query, key, value = self.inward(h).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, D)
        mixed = F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2)
        x = x + gate * self.outward(mixed)
        return x + gate_mlp * self.mlp(self.norm(x) * (1 + scale_mlp) + shift_mlp)


def positions(rows: int, columns: int, width: int) -> Tensor:
    """Sines and cosines of row and column, (rows * columns, width): a half for each (Vaswani et al. 2017, per axis)."""
    frequencies = torch.exp(-math.log(10_000) * torch.arange(width // 4) / (width // 4))
    parts = []
    for index in (torch.arange(rows).repeat_interleave(columns), torch.arange(columns).repeat(rows)):
        angles = index[:, None] * frequencies
        parts += [angles.sin(), angles.cos()]
    return torch.cat(parts, dim=1)

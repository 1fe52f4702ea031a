"""How networks read captions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.transformer import Block


class TextEncoder(nn.Module):
    """Words as features: embeddings, `depth` blocks of attention in both directions, a norm.

    With `ordered`, sines and cosines of a word's place are added to its embedding. Without them a caption is a set of
    words: in another order they have the same features, in that order. What fills a caption up is read like a word, as
    in Stable Diffusion, and a caption of nothing else is the empty one.

    Args:
        words: number of words that there are, the two special ones included.
        width: of a word's features.
        depth: number of blocks; 0 for the embeddings alone.
        heads: of each attention; they divide the width.
        ordered: whether the order of the words is known.

    Raises:
        UserError: heads that do not divide the width.
    """

    def __init__(self, words: int, width: int, depth: int, heads: int, ordered: bool) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"a text encoder of {heads} heads needs a width that they divide, not {width}.")
        self.ordered = ordered
        self.embedding = nn.Embedding(words, width)
        self.blocks = nn.Sequential(*(Block(width, heads, 0.0, True, causal=False) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)

    def forward(self, caption: Tensor | None, n: int) -> Tensor:
        """Captions int64 (n, L), negative for no word; None for n empty ones -> features (n, L, width)."""
        if caption is None:
            caption = torch.zeros(n, 1, dtype=torch.long, device=self.embedding.weight.device)
        words = self.embedding(caption.clamp_min(0))
        return self.norm(self.blocks(words + places(words) if self.ordered else words))


class CrossAttention(nn.Module):
    """Attention from features to words.

        query = W_q x,   key_i = W_k (w_i + e_i),   value_i = W_v w_i

    With `tenor`, e_i are sines and cosines of the place i, and else 0. So the order of words comes back where they are
    looked at, if the text encoder lost it (TENOR, Zhang et al. 2025, "CoMPaSS: Enhancing Spatial Understanding in
    Text-to-Image Diffusion Models", and the authors' code for Stable Diffusion). It has no weights: a model
    that was trained without it can be trained on with it.

    Args:
        width: of the features x.
        words: of a word's features, divisible by `heads`.
        heads: of the attention.
        tenor: whether keys tell their place.
        out: width of the output.
    """

    def __init__(self, width: int, words: int, heads: int, tenor: bool, out: int) -> None:
        super().__init__()
        self.heads, self.tenor = heads, tenor
        self.query, self.key = nn.Linear(width, words), nn.Linear(words, words)
        self.value, self.outward = nn.Linear(words, words), nn.Linear(words, out)

    def forward(self, x: Tensor, words: Tensor) -> Tensor:
        """x (B, T, width), words (B, L, words) -> (B, T, out)."""
        keys = words + places(words) if self.tenor else words
        parts = (self.query(x), self.key(keys), self.value(words))
        query, key, value = (part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in parts)
        return self.outward(F.scaled_dot_product_attention(query, key, value).transpose(1, 2).flatten(2))


def places(words: Tensor) -> Tensor:
    """Words (B, L, width) -> sines and cosines of their places (L, width), Vaswani et al. 2017, section 3.5."""
    length, width = words.shape[1:]
    frequencies = torch.exp(-math.log(10_000) * torch.arange(0, width, 2, device=words.device) / width)
    angles = torch.arange(length, device=words.device)[:, None] * frequencies
    return torch.stack([angles.sin(), angles.cos()], 2).flatten(1)[:, :width].to(words)

"""Transformer over tokens: decoder-only, or of attention in both directions."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.cache import KeyValueCache


class Attention(nn.Module):
    """Self-attention of `heads` heads, causal or in both directions, (B, T, width) -> (B, T, width)."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool, causal: bool = True) -> None:
        super().__init__()
        self.heads, self.dropout, self.causal = heads, dropout, causal
        self.inward = nn.Linear(width, 3 * width, bias=bias)
        self.outward = nn.Linear(width, width, bias=bias)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, block: int = 0) -> Tensor:
        """See above; with a cache, x are the next places of block number `block`."""
        query, key, value = self.inward(x).unflatten(2, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # (B, heads, T, D)
        dropout = self.dropout if self.training else 0.0
        if cache is not None:
            mixed = cache.attend(block, query, key, value)
        else:
            mixed = F.scaled_dot_product_attention(query, key, value, dropout_p=dropout, is_causal=self.causal)
        return F.dropout(self.outward(mixed.transpose(1, 2).flatten(2)), dropout, self.training)


class Block(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x)) with a hidden layer of 4 widths."""

    def __init__(self, width: int, heads: int, dropout: float, bias: bool, causal: bool = True) -> None:
        super().__init__()
        self.before_attention = nn.LayerNorm(width, bias=bias)
        self.attention = Attention(width, heads, dropout, bias, causal)
        self.before_mlp = nn.LayerNorm(width, bias=bias)
        self.widen = nn.Linear(width, 4 * width, bias=bias)
        self.narrow = nn.Linear(4 * width, width, bias=bias)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, block: int = 0) -> Tensor:
        """x (B, T, width) -> (B, T, width); with a cache, x are the next places of block number `block`."""
        x = x + self.attention(self.before_attention(x), cache, block)
        hidden = F.gelu(self.widen(self.before_mlp(x)), approximate="tanh")
        return x + F.dropout(self.narrow(hidden), self.attention.dropout, self.training)


class Transformer(nn.Module):
    """The GPT-2 architecture: token and position embeddings, `depth` pre-norm blocks, a norm, and the token embedding
    once more as the last layer.

    Weights are drawn from N(0, 0.02^2), those of the two layers that write into the residual stream from
    N(0, 0.02^2 / (2 depth)), biases are 0 (Radford et al. 2019, sections 2.2 and 2.3; 0.02 from GPT-1).

    Args:
        in_shape: (context,), the longest text that it reads.
        out_shape: (vocabulary,).
        width: of the residual stream.
        depth: number of blocks.
        heads: of each attention; they divide the width.
        dropout: on what is added to the residual stream, on the attention weights and on the embeddings.
        bias: whether linear layers and norms have biases; nanoGPT's default is none.
        causal: whether a position sees only those before it (GPT); False: all of them (Devlin et al. 2019, BERT).

    Raises:
        UserError: heads that do not divide the width.
    """

    kinds = ("text",)

    def __init__(
        self,
        in_shape: tuple[int],
        out_shape: tuple[int],
        width: int = 128,
        depth: int = 4,
        heads: int = 4,
        dropout: float = 0.0,
        bias: bool = False,
        causal: bool = True,
    ) -> None:
        super().__init__()
        if width % heads:
            raise UserError(f"net.heads={heads} do not divide net.width={width}.")
        (self.context,), (vocabulary,) = in_shape, out_shape
        self.features, self.heads, self.dropout, self.causal = width, heads, dropout, causal
        self.token = nn.Embedding(vocabulary, width)
        self.position = nn.Embedding(self.context, width)
        self.blocks = nn.Sequential(*(Block(width, heads, dropout, bias, causal) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, bias=bias)
        self.initialise(depth)

    @torch.no_grad()
    def initialise(self, depth: int) -> None:
        """Draw the weights."""
        for name, weight in self.named_parameters():
            if weight.dim() == 2:
                into_stream = name.endswith(("attention.outward.weight", "narrow.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * depth) if into_stream else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(weight)

    def stages(self) -> list[tuple[nn.Module]]:
        return [(block,) for block in self.blocks]

    def enter(self, ids: Tensor, start: int = 0) -> Tensor:
        end = start + ids.shape[1]
        self.fits(end)
        return F.dropout(self.token(ids) + self.position.weight[start:end], self.dropout, self.training)

    def fits(self, length: int) -> None:
        """Refuse texts longer than the context."""
        if length > self.context:
            raise UserError(f"a text of {length} tokens is longer than the {self.context} that this model reads.")

    def through(self, stage: int, state: Tensor) -> Tensor:
        return self.blocks[stage](state)

    def leave(self, state: Tensor) -> Tensor:
        return F.linear(self.norm(state), self.token.weight)

    def embed(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> features before the last layer (B, T, width), of its token and those that it sees."""
        return self.norm(self.blocks(self.enter(ids)))

    def read(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        """ids int64 (B, T) -> features (B, T, width), as `embed`, and logits (B, T, vocabulary), in one pass."""
        features = self.embed(ids)
        return features, F.linear(features, self.token.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T), T up to the context -> logits (B, T, vocabulary): of each next token, if causal."""
        return self.leave(self.blocks(self.enter(ids)))

    def cache(self, rows: int, length: int) -> KeyValueCache:
        """See `modules.networks.cache.CachedNet`."""
        self.fits(length)
        if not self.causal:
            raise UserError(
                "a network that reads in both directions cannot go on from what it has read.", "net.causal=true"
            )
        size = self.features // self.heads
        return KeyValueCache.empty(len(self.blocks), rows, self.heads, length, size, self.token.weight)

    @torch.no_grad()
    def advance(self, ids: Tensor, cache: KeyValueCache, keep: int | None = None) -> Tensor:
        """See `modules.networks.cache.CachedNet`."""
        state = self.enter(ids, cache.length)
        for number, block in enumerate(self.blocks):
            state = block(state, cache, number)
        cache.length += ids.shape[1]
        return self.leave(state if keep is None else state[:, -keep:])

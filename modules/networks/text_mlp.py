"""Multilayer perceptron that reads a caption."""

from __future__ import annotations

import math

from torch import Tensor, nn

from modules.networks.text import CrossAttention, TextEncoder
from modules.networks.time import Conditioning


class TextMLP(nn.Module):
    """`MLP` whose hidden layers look at the words of a caption: h + SiLU(W h + time + attention from h to the words).

    For pictures of a few hundred pixels on a processor: it learns what the order of words means within a thousand
    steps, of a few milliseconds each.

    Args:
        in_shape: shape of one x.
        out_shape: shape of one output.
        words: number of words that there are, the two special ones included.
        read: blocks of the text encoder, see `TextEncoder`.
        ordered: whether it knows the order of the words.
        tenor: whether the attention to its words does, see `CrossAttention`.
        width: units of a hidden layer.
        depth: number of hidden layers after the first.
        text: features of a word, divisible by `heads`.
        heads: of each attention.
        time: whether `forward` also takes t (B,).

    Raises:
        UserError: heads that do not divide the features.
    """

    kinds = ("image", "vector")

    def __init__(
        self,
        in_shape: tuple[int, ...],
        out_shape: tuple[int, ...],
        words: int = 2,
        read: int = 0,
        ordered: bool = True,
        tenor: bool = False,
        width: int = 256,
        depth: int = 3,
        text: int = 64,
        heads: int = 8,
        time: bool = False,
    ) -> None:
        super().__init__()
        self.out_shape = tuple(out_shape)
        self.encoder = TextEncoder(words, text, read, heads, ordered)
        self.condition = Conditioning(width, time, 0)
        self.first = nn.Linear(math.prod(in_shape), width)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.told = nn.ModuleList(CrossAttention(width, text, heads, tenor, width) for _ in range(depth))
        self.last = nn.Linear(width, math.prod(out_shape))
        self.activation = nn.SiLU()

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, *in_shape), t (B,) if `time`, captions y int64 (B, L), negative for no word -> (B, *out_shape)."""
        words, shift = self.encoder(y, len(x)), self.condition(t, None)
        h = self.activation(self.first(x.flatten(1)) + shift)
        for layer, told in zip(self.hidden, self.told, strict=True):
            h = h + self.activation(layer(h) + shift + told(self.norm(h)[:, None], words)[:, 0])
        return self.last(h).unflatten(1, self.out_shape)

"""A table of what comes after each token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn


@dataclass
class Counted:
    """The cache of a network that needs nothing of what it has read: how much it was."""

    length: int = 0

    def select(self, rows: Tensor) -> Self:
        return type(self)(self.length)

    def join(self, other: Self) -> Self:
        return type(self)(self.length)

    def crop(self, length: int) -> None:
        self.length = length


class Bigram(nn.Module):
    """Logits of the next token, a row of a table for each last token: any law p(next | last), even at first.

    Args:
        in_shape: (context,), the longest text that it reads.
        out_shape: (vocabulary,).
    """

    kinds = ("text",)

    def __init__(self, in_shape: tuple[int], out_shape: tuple[int]) -> None:
        super().__init__()
        self.table = nn.Embedding(out_shape[0], out_shape[0])
        nn.init.zeros_(self.table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> logits (B, T, vocabulary)."""
        return self.table(ids)

    def cache(self, rows: int, length: int) -> Counted:
        """See `modules.networks.cache.CachedNet`."""
        return Counted()

    @torch.no_grad()
    def advance(self, ids: Tensor, cache: Counted, keep: int | None = None) -> Tensor:
        """See `modules.networks.cache.CachedNet`."""
        cache.length += ids.shape[1]
        return self(ids if keep is None else ids[:, -keep:])

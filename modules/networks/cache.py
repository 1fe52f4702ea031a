"""Reading a text piece by piece: what a network keeps of the tokens that it has read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Self, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F


class Cache(Protocol):
    """What a network has kept of the first `length` tokens of several texts, all of them equally long."""

    length: int
    """How many tokens of each text were read."""

    def select(self, rows: Tensor) -> Self:
        """Rows int64 (R,), in any order and as often as wanted -> a cache of those texts, which shares nothing.

        Texts that are finished are dropped with it, and a prompt that was read once is answered several times.
        """
        ...

    def join(self, other: Self) -> Self:
        """The texts of both, which are equally long: a longer prompt comes to those that have grown to its length."""
        ...

    def crop(self, length: int) -> None:
        """Forget all but the first `length` tokens of each text, in place: they go on otherwise."""
        ...


@runtime_checkable
class CachedNet(Protocol):
    """A causal network that goes on from what it has read: it writes a text of T tokens in T passes over one token.

        cache = net.cache(rows, length)                 room for `rows` texts of up to `length` tokens
        logits = net.advance(prompts, cache)            (rows, t, vocabulary)
        logits = net.advance(drawn[:, None], cache)     (rows, 1, vocabulary), and so on

    Whatever the pieces are, the logits are those of `forward` over the whole text, up to rounding. No gradient goes
    through them. Texts of a cache are equally long: a longer prompt joins once the others have grown to its length.
    """

    def cache(self, rows: int, length: int) -> Cache:
        """An empty cache, on the network's device, for `rows` texts of at most `length` tokens.

        Raises:
            UserError: a network that cannot go on from what it has read, or texts longer than its context.
        """
        ...

    def advance(self, ids: Tensor, cache: Cache, keep: int | None = None) -> Tensor:
        """Read the next t tokens of each text; `cache` is changed in place.

        Args:
            ids: int64 (rows, t).
            cache: what was read before.
            keep: of the last so many places logits are wanted; None: of all t. A long prompt needs those of one.

        Returns:
            logits (rows, t or keep, vocabulary), of what follows each token.
        """
        ...


@dataclass
class KeyValueCache:
    """Keys and values of all blocks of a transformer, in memory that is taken once.

    Attributes:
        keys, values: (blocks, rows, heads, room, size of a head), filled up to `length`.
        length: tokens that were read.
    """

    keys: Tensor
    values: Tensor
    length: int = 0

    @classmethod
    def empty(cls, blocks: int, rows: int, heads: int, room: int, size: int, like: Tensor) -> Self:
        """Room for texts, on the device and in the dtype of `like`."""
        shape = (blocks, rows, heads, room, size)
        return cls(like.new_empty(shape), like.new_empty(shape))

    def select(self, rows: Tensor) -> Self:
        shape = (len(self.keys), len(rows), *self.keys.shape[2:])
        chosen = type(self)(self.keys.new_empty(shape), self.values.new_empty(shape), self.length)
        for own, new in ((self.keys, chosen.keys), (self.values, chosen.values)):
            new[..., : self.length, :] = own[..., : self.length, :].index_select(1, rows)
        return chosen

    def join(self, other: Self) -> Self:
        rows = self.keys.shape[1]
        shape = (len(self.keys), rows + other.keys.shape[1], *self.keys.shape[2:])
        joined = type(self)(self.keys.new_empty(shape), self.values.new_empty(shape), self.length)
        for part, at in ((self, slice(rows)), (other, slice(rows, None))):
            joined.keys[:, at, :, : self.length] = part.keys[..., : self.length, :]
            joined.values[:, at, :, : self.length] = part.values[..., : self.length, :]
        return joined

    def crop(self, length: int) -> None:
        self.length = length

    def attend(self, block: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Causal attention of t new places to what was read and to themselves; their keys and values are noted.

        `length` stays as it is: it goes on once all blocks have noted theirs.

        Args:
            block: which one.
            query, key, value: (rows, heads, t, size).

        Returns:
            Mixed values (rows, heads, t, size).
        """
        new, end = key.shape[2], self.length + key.shape[2]
        self.keys[block, :, :, self.length : end] = key
        self.values[block, :, :, self.length : end] = value
        if not self.length:
            return F.scaled_dot_product_attention(query, key, value, is_causal=True)
        keys, values = self.keys[block, :, :, :end], self.values[block, :, :, :end]
        # One new place sees all; of several each sees what was read, and those of the new ones up to itself.
        mask = None if new == 1 else torch.ones(new, end, dtype=torch.bool, device=key.device).tril(self.length)
        return F.scaled_dot_product_attention(query, keys.to(query.dtype), values.to(query.dtype), attn_mask=mask)

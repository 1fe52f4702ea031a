"""Caches of transformers in memory that is taken once: the library's own copies all that it holds for each token."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any, Self

import torch
from torch import Tensor

from compendium.errors import UserError


@dataclass
class Past:
    """What transformers keeps of the texts that it has read.

    Attributes:
        kept: a `transformers.Cache`.
        length: tokens that were read.
    """

    kept: Any
    length: int = 0

    @classmethod
    def empty(cls, library: Any, config: Any, room: int) -> Self | None:
        """For a model of this config, and texts of up to `room` tokens; None for one with recurrent layers, which take
        several tokens at once only at the start.

        Layers that see all that was read get memory for it at once; others, of sliding windows say, stay the library's.
        """
        kept = library.DynamicCache(config=config)
        usual, recurrent = library.cache_utils.DynamicLayer, library.cache_utils.LinearAttentionLayer
        if any(isinstance(layer, recurrent) or not isinstance(layer, usual) for layer in kept.layers):
            return None
        kept.layers = [with_room(usual)(room) if type(layer) is usual else layer for layer in kept.layers]
        return cls(kept)

    def select(self, rows: Tensor) -> Self:
        chosen = self.copied()
        chosen.kept.batch_select_indices(rows)
        return chosen

    def join(self, other: Self) -> Self:
        joined = self.copied()
        for layer, more in zip(joined.kept.layers, other.kept.layers, strict=True):
            layer.keys = torch.cat([layer.keys, more.keys])
            layer.values = torch.cat([layer.values, more.values])
            if hasattr(layer, "make_room"):
                layer.make_room()
        return joined

    def crop(self, length: int) -> None:
        """See `modules.networks.cache.Cache`.

        Raises:
            UserError: layers that have forgotten what it would need, such as those of a sliding window.
        """
        if length == self.length:
            return
        for layer in self.kept.layers:
            if not hasattr(layer, "crop_to"):
                raise UserError(
                    f"a model with layers of {type(layer).__name__} cannot take back what it has read.",
                    "write without a draft",
                )
            layer.crop_to(length)
        self.length = length

    def copied(self) -> Self:
        """One that shares what is kept until it is given something else."""
        kept = copy.copy(self.kept)
        kept.layers = [copy.copy(layer) for layer in self.kept.layers]
        return type(self)(kept, self.length)


@dataclass
class Reread:
    """The cache of models that cannot go on from what they have read: the ids, to be read again.

    Attributes:
        ids: int64 (rows, length).
        length: tokens that were read.
    """

    ids: Tensor
    length: int = 0

    def select(self, rows: Tensor) -> Self:
        return type(self)(self.ids[rows], self.length)

    def join(self, other: Self) -> Self:
        return type(self)(torch.cat([self.ids, other.ids]), self.length)

    def crop(self, length: int) -> None:
        self.ids, self.length = self.ids[:, :length], length


@cache
def with_room(usual: type) -> Any:
    """`transformers.cache_utils.DynamicLayer` with room; made when transformers is there."""

    class Roomy(usual):  # type: ignore[misc,valid-type]
        """Keys and values (B, heads, T, size) are the beginning of (B, heads, room, size)."""

        def __init__(self, room: int) -> None:
            super().__init__()
            self.room = room
            self.length = 0

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
            if not self.is_initialized:
                self.lazy_initialization(key_states, value_states)
                self.all_keys, self.all_values = (self.roomier(part, self.room) for part in (key_states, value_states))
            end = self.length + key_states.shape[2]
            self.all_keys[:, :, self.length : end] = key_states
            self.all_values[:, :, self.length : end] = value_states
            self.length = end
            self.keys, self.values = self.all_keys[:, :, :end], self.all_values[:, :, :end]
            return self.keys, self.values

        @staticmethod
        def roomier(part: Tensor, room: int) -> Tensor:
            return part.new_empty((*part.shape[:2], room, part.shape[3]))

        def crop_to(self, length: int) -> None:
            self.length = length
            self.keys, self.values = self.all_keys[:, :, :length], self.all_values[:, :, :length]

        def batch_select_indices(self, indices: Tensor) -> None:
            if self.is_initialized:
                super().batch_select_indices(indices)
                self.make_room()

        def make_room(self) -> None:
            """Put keys and values that have become others where there is room behind them."""
            for name in ("keys", "values"):
                part = getattr(self, name)
                held = self.roomier(part, self.room)
                held[:, :, : self.length] = part
                setattr(self, f"all_{name}", held)
                setattr(self, name, held[:, :, : self.length])

    return Roomy

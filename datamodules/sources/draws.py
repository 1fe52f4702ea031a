"""Draws for texts that a rule writes, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch

T = TypeVar("T")


class Draws:
    """Draws of a generator, taken many at once: one at a time would be most of the work.

    Args:
        generator: the generator.
        at_once: how many numbers are taken from it together.
        dtype: of the numbers.
    """

    def __init__(self, generator: torch.Generator, at_once: int = 4096, dtype: torch.dtype = torch.float64) -> None:
        self.numbers = self.drawn(generator, at_once, dtype)

    @staticmethod
    def drawn(generator: torch.Generator, at_once: int, dtype: torch.dtype) -> Iterator[float]:
        """Numbers in [0, 1), without an end."""
        while True:
            yield from torch.rand(at_once, generator=generator, dtype=dtype).tolist()

    def number(self) -> float:
        """A number in [0, 1)."""
        return next(self.numbers)

    def chance(self, probability: float) -> bool:
        """Whether something happens that has a probability."""
        return self.number() < probability

    def below(self, count: int) -> int:
        """A number in {0, ..., count - 1}."""
        return int(self.number() * count)

    def one(self, things: Sequence[T]) -> T:
        """One of some things."""
        return things[self.below(len(things))]

    def order(self, count: int) -> list[int]:
        """The numbers from 0 to `count` - 1 in any order."""
        keys = [self.number() for _ in range(count)]
        return sorted(range(count), key=keys.__getitem__)

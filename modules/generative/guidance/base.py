"""What every guidance has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.stops import spread, tiled


class Conditional(Protocol):
    """A model whose field may depend on a class."""

    path: Path

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """x (B, ...), t (B,), y int64 (B,) -> E[x_0 | x_t, y] (B, ...); y None, or -1 in a row, asks for any class."""
        ...


class Guidance(ABC):
    """Makes the field that a sampler follows."""

    @abstractmethod
    def field(self, model: Conditional, y: Tensor | None) -> Field:
        """The field of a model towards classes y int64 (B,); None where no class is asked for.

        Raises:
            UserError: a guidance that needs something that the model has not.
        """


class Corrected(Protocol):
    """A field whose draws follow the law that it stands for once they are weighted: see `sampler=feynman_kac`."""

    def scored(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, ...) at the time t, a single number -> score (B, ...), and d log w / dt / g^2 on the way back (B,).

        The second is up to what is the same for all records.
        """
        ...


class Unguided(Guidance):
    """The model's own field, conditional where a class is asked for."""

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        flow = getattr(model, "flow", None)  # of a `GaussianModel`; a denoiser alone is a model as well
        return Field(model.path, lambda x, t: model.denoise(x, t, y), flow and flow(y))


class Pair(Field):
    """A field that combines the predictions with and without the class, or for two classes, from one call on both.

    Args:
        model: the conditional model.
        y: classes int64 (B,).
        other: the class that the second prediction is for; -1 for any.
    """

    cost = 2

    def __init__(self, model: Conditional, y: Tensor, other: int = -1) -> None:
        super().__init__(model.path, self.combined)
        self.model = model
        self.y = y
        self.both = torch.cat([y, torch.full_like(y, other)])

    def pair(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """E[x_0 | x_t, y] and E[x_0 | x_t, other], (B, ...) each, for t (B,)."""
        both = torch.cat([x, x])
        return self.model.denoise(both, tiled(t, both), self.both).chunk(2)

    def conditional(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t, y] (B, ...) at the time t, a single number: one evaluation."""
        self.calls += 1
        return self.model.denoise(x, spread(t, x), self.y)

    def combine(self, conditional: Tensor, unconditional: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """The two predictions (B, ...), at x (B, ...) and t (B,) -> the guided one (B, ...)."""
        raise NotImplementedError

    def combined(self, x: Tensor, t: Tensor) -> Tensor:
        return self.combine(*self.pair(x, t), x, t)

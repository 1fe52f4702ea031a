"""Weak-to-strong diffusion: each step is taken, reflected by a weaker model, and taken again."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import opened_for
from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler
from modules.generative.samplers.ddim import moved


class Reflection(Sampler):
    """W2SD: x_s -> x_t by DDIM of the strong model, back to s by inverted DDIM of a weak one, and to t again.

    There and back, x_s moves by about sigma_s (s - t) times the difference of the two scores, strong minus weak: if the
    strong model lies between the weak one and the data, towards the data.

    Bai et al. 2025, "Weak-to-Strong Diffusion with Reflection", Algorithm 1. Deviation: inversion evaluates the weak
    model at x_t, as DDIM inversion does, with no fixed-point iteration.

    Args:
        weak: checkpoint of the weaker model, on the same path.
        until: reflect in this share of the steps, from the first on, from 0 to 1.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a share out of range.
    """

    papers = ("bai2025weak",)

    def __init__(self, weak: str, until: float = 1.0, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 <= until <= 1:
            raise UserError(f"sampler.until={until}: a share of the steps, from 0 to 1.")
        self.weak, self.until = weak, until

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        self.last = times[round(self.until * (len(times) - 1))]
        return super().sample(field, x, times)

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        there = moved(field, field.data(x, s), x, s, t)
        if t < self.last:
            return there
        back = Field(field.path, opened_for(self.weak, x).denoise)
        x = moved(back, back.data(there, t), there, t, s)
        field.calls += back.calls
        return moved(field, field.data(x, s), x, s, t)

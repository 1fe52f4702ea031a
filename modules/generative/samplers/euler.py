"""Euler's method for the probability flow."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class Euler(Sampler):
    """x_t = x_s + (t - s) v(x_s, s), with the velocity v of the probability flow: first order in the path's own time.

    On the linear path it is the sampler of flow matching and rectified flow.

    Args:
        parts: the arguments of `Sampler`.
    """

    order = 1

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        return x + (t - s) * field.velocity(x, s)

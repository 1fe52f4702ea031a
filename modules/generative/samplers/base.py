"""What every sampler has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any, ClassVar

from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import Stops, remembering


class Sampler(ABC):
    """Carries noise to data in steps from one time to the next earlier one.

    A sampler is a `step`. It sees the model as a `Field` and never asks what the network predicts or how it is guided.

    Args:
        denoise: end with E[x_0 | x_start], which takes the last noise away and costs one more evaluation, as the
            Euler step from the smallest noise level to zero does in EDM.

    Attributes:
        order: p such that the error of draws falls as (number of steps)^-p, declared by the class and measured by
            tests/modules/generative/samplers/test_order.py; None for a sampler that draws noise or adapts its steps.
    """

    order: ClassVar[int | None] = None

    def __init__(self, denoise: bool = True) -> None:
        self.denoise = denoise

    @abstractmethod
    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        """x (B, ...) at time s -> x at the earlier time t.

        Args:
            field: the model.
            x: records.
            s: time of x, a single float64 number.
            t: the next time, likewise.
            memory: whatever a sampler keeps from one step to the next; empty at first.
        """

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        """x (B, ...) at times[0] -> x at times[-1], or E[x_0] seen from there.

        Args:
            field: the model.
            x: noise.
            times: falling, float64 (steps,).
        """
        memory: dict[str, Any] = {}
        field.path, stops = remembering(field.path), Stops(times).all
        for s, t in pairwise(stops):
            x = self.step(field, x, s, t, memory)
        return field.data(x, stops[-1]) if self.denoise else x

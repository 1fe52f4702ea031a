"""What every integrator has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import pairwise
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from modules.generative.gaussian.phase_space import PhaseField

NODES = 32
"""Of Gauss and Legendre's quadrature of coefficients, whose only singularity is at t = 0."""


class Integrator(ABC):
    """Carries states (x, m) of noise to data in steps from one time to the next earlier one, and ends with E[x_0 | z].

    Attributes:
        order: p such that the error of draws falls as (number of steps)^-p, measured by the tests; None for one that
            draws noise or adapts its steps.
    """

    order: ClassVar[int | None] = 1

    @abstractmethod
    def step(self, field: PhaseField, z: Tensor, s: Tensor, t: Tensor) -> Tensor:
        """z (B, 2, ...) at time s -> z at the earlier time t, each a single float64 number."""

    def sample(self, field: PhaseField, z: Tensor, times: Tensor) -> Tensor:
        """z (B, 2, ...) at times[0] -> records (B, ...), seen from times[-1]; times fall, float64 (steps,)."""
        for s, t in pairwise(times):
            z = self.step(field, z, s, t)
        return field.position(z, times[-1])


def integral(function: Callable[[Tensor], Tensor], s: Tensor, t: Tensor) -> Tensor:
    """int_s^t of a function of times (N,) -> (N, ...), float64."""
    places, weights = (torch.from_numpy(part) for part in np.polynomial.legendre.leggauss(NODES))
    values = function((s + t) / 2 + (t - s) / 2 * places)
    return (t - s) / 2 * torch.tensordot(weights, values, 1)

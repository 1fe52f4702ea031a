"""The probability flow by an adaptive solver."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class Adaptive(Sampler):
    """Solves dx / dt = v(x, t) from the first time to the last with steps that torchdiffeq chooses.

    Args:
        method: of torchdiffeq. Default `dopri5`, Dormand and Prince's pair of orders 5 and 4.
        rtol: relative tolerance. Default 1e-5, as Song et al. 2021 for likelihood and samples.
        atol: absolute tolerance, likewise.
        parts: the arguments of `Sampler`.
    """

    def __init__(self, method: str = "dopri5", rtol: float = 1e-5, atol: float = 1e-5, **parts: Any) -> None:
        super().__init__(**parts)
        self.method, self.rtol, self.atol = method, rtol, atol

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        from torchdiffeq import odeint

        def flow(time: Tensor, y: Tensor) -> Tensor:
            # The solver steps past the end and comes back by interpolation; a path may have no noise there.
            return field.velocity(y, time.clamp_min(t))

        return odeint(flow, x, torch.stack([s, t]), method=self.method, rtol=self.rtol, atol=self.atol)[-1]

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        return super().sample(field, x, times[[0, -1]])

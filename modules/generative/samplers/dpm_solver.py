"""DPM-Solver++(2M)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.stops import between
from modules.generative.samplers.base import Sampler


class DPMSolver(Sampler):
    """The exponential integrator of second order that reuses the last step's evaluation: one evaluation a step.

    With lambda = ln(alpha / sigma), h = lambda_t - lambda_s and D = E[x_0 | x],

        x_t = (sigma_t / sigma_s) x_s - alpha_t (exp(-h) - 1) ((1 + 1 / (2 r)) D_s - 1 / (2 r) D_before)

    where r is the last h over this one. The first step is of first order, which is DDIM's.

    Lu et al. 2022, "DPM-Solver++: Fast Solver for Guided Sampling of Diffusion Probabilistic Models", Algorithm 2.

    Args:
        parts: the arguments of `Sampler`.
    """

    order = 2

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        data = field.data(x, s)
        of_x, of_slope, h = between(coefficients, field.path, s, t)
        slope = data
        if memory:
            slope = data + h / (2 * memory["h"]) * (data - memory["data"])
        memory |= {"data": data, "h": h}
        return of_x * x + of_slope * slope


def coefficients(path: Path, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Those of x_s and of the slope in x_t, and h."""
    h = 0.5 * (path.log_snr(t) - path.log_snr(s))
    return path.sigma(t) / path.sigma(s), -path.alpha(t) * torch.expm1(-h), h

"""The exponential midpoint method."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class ExponentialMidpoint(Sampler):
    """Solves the flow's linear part exactly, and the rest by the midpoint in lambda = ln(alpha / sigma).

    With h = lambda_t - lambda_s and the time m at which lambda lies in the middle,

        x_m = (alpha_m / alpha_s) x_s - sigma_m (exp(h / 2) - 1) eps(x_s, s)
        x_t = (alpha_t / alpha_s) x_s - sigma_t (exp(h) - 1) eps(x_m, m)

    Two evaluations a step. Lu et al. 2022, "DPM-Solver: A Fast ODE Solver for Diffusion Probabilistic Model Sampling in
    Around 10 Steps", Algorithm 1 (DPM-Solver-2).

    Args:
        parts: the arguments of `Sampler`.
    """

    order = 2

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        path = field.path
        early, late = path.log_snr(t), path.log_snr(s)
        middle = path.time_of((early + late) / 2)
        guess = moved(field, x, field.noise(x, s), s, middle)
        return moved(field, x, field.noise(guess, middle), s, t)


def moved(field: Field, x: Tensor, noise: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """x at time s -> at time t, for noise eps that stays as it is on the way."""
    path = field.path
    h = 0.5 * (path.log_snr(t) - path.log_snr(s))
    return path.alpha(t) / path.alpha(s) * x - path.sigma(t) * torch.expm1(h) * noise

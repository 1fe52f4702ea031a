"""Heun's method in the noise level, with churn: the sampler of EDM."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class Heun(Sampler):
    """The trapezoidal rule for dy / dr = (y - D) / r, where y = x / alpha, r = sigma / alpha, D = E[x_0 | x_t].

    In these coordinates every Gaussian path has the same flow. Two evaluations a step. With churn, a step starts by
    adding noise: r grows by the factor 1 + min(churn / steps, sqrt(2) - 1), and the draw turns into that of an SDE.

    Karras et al. 2022, "Elucidating the Design Space of Diffusion-Based Generative Models", Algorithms 1 and 2, for any
    Gaussian path.

    Args:
        churn: S_churn, at least 0. Default 0, the deterministic sampler.
        noise: S_noise, standard deviation of the added noise over what the path has.
        low: S_min, noise is added only where r is at least this.
        high: S_max, and at most this; None for no limit.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a negative churn.
    """

    order = 2

    def __init__(
        self, churn: float = 0.0, noise: float = 1.0, low: float = 0.0, high: float | None = None, **parts: Any
    ) -> None:
        super().__init__(**parts)
        if churn < 0:
            raise UserError(f"sampler.churn={churn}: at least 0.")
        self.churn, self.noise, self.low = churn, noise, low
        self.high = math.inf if high is None else high

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        self.growth = 1 + min(self.churn / len(times), math.sqrt(2) - 1)
        return super().sample(field, x, times)

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        path = field.path
        if self.churn and self.low <= path.noise_ratio(s) <= self.high:
            x, s = self.noisier(field, x, s)
        now, then = path.noise_ratio(s), path.noise_ratio(t)
        y = x / path.alpha(s)
        slope = (y - field.data(x, s)) / now
        guess = y + (then - now) * slope
        corrected = (guess - field.data(path.alpha(t) * guess, t)) / then
        return path.alpha(t) * (y + (then - now) * (slope + corrected) / 2)

    def noisier(self, field: Field, x: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """x at a time with more noise, and that time, at most the path's end."""
        path = field.path
        later = path.time_of_ratio(path.noise_ratio(s) * self.growth).clamp(s, torch.tensor(path.end).to(s))
        more = (path.noise_ratio(later).square() - path.noise_ratio(s).square()).clamp_min(0).sqrt()
        y = x / path.alpha(s) + self.noise * more * torch.randn_like(x)
        return path.alpha(later) * y, later

"""DDIM, and DDPM at its other end."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.stops import between
from modules.generative.samplers.base import Sampler


class DDIM(Sampler):
    """Puts the predicted data and the predicted noise together again at the next time, with fresh noise in part.

        x_t = alpha_t x_0 + sqrt(sigma_t^2 - eta^2 v) eps + eta sqrt(v) z,   z ~ N(0, I)
        v = (sigma_t / sigma_s)^2 (sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2)

    where v is the variance of x_t given x_s and x_0. eta = 0 follows the probability flow, and is Euler's method in
    sigma / alpha, the exponential Euler method; eta = 1 is the ancestral sampler of DDPM with the smaller of its two
    variances.

    Song et al. 2021, "Denoising Diffusion Implicit Models", equations 12 and 16, for any Gaussian path.

    Args:
        eta: share of the noise that is drawn anew, from 0 to 1.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: eta outside [0, 1].
    """

    order = 1

    def __init__(self, eta: float = 0.0, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 <= eta <= 1:
            raise UserError(f"sampler.eta={eta}: a share from 0 (deterministic) to 1 (DDPM).")
        self.eta = eta

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        if not self.eta:
            return moved(field, field.data(x, s), x, s, t)
        of_x, of_data, std = between(self.coefficients, field.path, s, t)
        return of_x * x + of_data * field.data(x, s) + std * torch.randn_like(x)

    def coefficients(self, path: Path, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Those of x_s, of the data and of z in x_t."""
        variance = self.eta**2 * posterior_variance(path, s, t)
        of_x = (path.sigma(t).square() - variance).clamp_min(0).sqrt() / path.sigma(s)
        return of_x, path.alpha(t) - of_x * path.alpha(s), variance.sqrt()


def moved(field: Field, data: Tensor, x: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """x at time s -> x at time t, earlier or later, with the data and the noise that are predicted at s."""
    of_x, of_data = between(kept, field.path, s, t)
    return of_x * x + of_data * data


def kept(path: Path, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients of x_s and of the data in x_t, where data and noise stay what they are at s."""
    of_x = path.sigma(t) / path.sigma(s)
    return of_x, path.alpha(t) - of_x * path.alpha(s)


def posterior_variance(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Variance of x_t given x_s and x_0, t before s."""
    return (path.sigma(t) / path.sigma(s)).square() * forward_variance(path, s, t)


def forward_variance(path: Path, s: Tensor, t: Tensor) -> Tensor:
    """Variance of x_s given x_t, t before s: sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2."""
    return path.sigma(s).square() - (path.alpha(s) / path.alpha(t) * path.sigma(t)).square()

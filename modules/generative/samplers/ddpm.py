"""The ancestral sampler of DDPM."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.stops import between
from modules.generative.samplers.base import Sampler
from modules.generative.samplers.ddim import forward_variance, posterior_variance


class DDPM(Sampler):
    """Draws x_t from a Gaussian around the mean of q(x_t | x_s, x_0) at the predicted x_0.

        mean = (alpha_s / alpha_t) (sigma_t / sigma_s)^2 x_s + alpha_t (w / sigma_s^2) x_0
        w = sigma_s^2 - (alpha_s / alpha_t)^2 sigma_t^2

    with the variance of that posterior, w (sigma_t / sigma_s)^2, or of the forward step, w: the two ends between which
    the best one lies. Ho et al. 2020, "Denoising Diffusion Probabilistic Models", equations 7 and 11 and section 3.2.

    Args:
        variance: `posterior` or `forward`. DDPM's two choices gave similar samples; default as in DDIM's eta = 1.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: another variance.
    """

    def __init__(self, variance: Literal["posterior", "forward"] = "posterior", **parts: Any) -> None:
        super().__init__(**parts)
        if variance not in ("posterior", "forward"):
            raise UserError(f"sampler.variance={variance} is unknown.", "there are: posterior, forward")
        self.variance = {"posterior": posterior_variance, "forward": forward_variance}[variance]

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        of_x, of_data, std = between(self.coefficients, field.path, s, t)
        return of_x * x + of_data * field.data(x, s) + std * torch.randn_like(x)

    def coefficients(self, path: Path, s: Tensor, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Those of x_s and of the data in the mean, and the standard deviation."""
        shrink = (path.sigma(t) / path.sigma(s)).square()
        rest = forward_variance(path, s, t) / path.sigma(s).square()
        return path.alpha(s) / path.alpha(t) * shrink, path.alpha(t) * rest, self.variance(path, s, t).sqrt()

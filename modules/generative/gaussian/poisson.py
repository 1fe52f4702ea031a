"""PFGM++: noise with heavy tails, by which diffusion and Poisson flow become one family."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.paths import NoiseLevel, along


class PoissonFlow(NoiseLevel):
    """x_t = x_0 + t eps, where eps is the shadow of D further dimensions that data do not have.

    In N + D dimensions records are charges, and the field of a charge at y, seen at x and at the distance r from the
    data's own N dimensions, gives the perturbation kernel

        p_r(x | y) ~ (|x - y|^2 + r^2)^(-(N + D) / 2),     r = t sqrt(D)

    that is x = y + t eps with eps of Student's law of D degrees of freedom, whose radius is sqrt(D b / (1 - b)) with
    b ~ Beta(N / 2, D / 2). It does not depend on t. Along field lines dx / dt = (x - E[x_0 | x_t]) / t, as along the
    flow of EDM, and all of EDM's settings carry over at equal t. D = 1 is the Poisson flow of PFGM, and D to infinity
    is `path=edm`.

    Xu et al. 2023, "PFGM++: Unlocking the Potential of Physics-Inspired Generative Models", sections 3.1 to 3.3 and 4.

    Deviations: (1) Student's law is drawn as a Gaussian divided by the root of a chi-square variable over D, which is
    the paper's product of a Beta radius and a direction. (2) The score of this kernel is none of the denoiser: samplers
    that add noise (`sde`, `ddpm`, churn) are those of Gaussian noise, and are inexact, as in the paper's code.

    Args:
        extra: D, above 0. Default 128, the paper's for FFHQ; for CIFAR-10 it has 2048.
        low: the smallest noise level.
        high: the largest.

    Raises:
        UserError: no extra dimension.
    """

    papers = ("xu2023pfgm",)

    def __init__(self, extra: float = 128.0, low: float = 0.002, high: float = 80.0) -> None:
        super().__init__(low, high)
        if extra <= 0:
            raise UserError(f"path.extra={extra}: dimensions are added to the data.", "path=edm adds infinitely many")
        self.extra = extra

    def noise(self, like: Tensor) -> Tensor:
        normal = torch.randn_like(like)
        half = torch.full((len(like),), self.extra / 2, device=like.device, dtype=torch.float64)
        return along((half / torch.distributions.Gamma(half, 1.0).sample()).sqrt(), like) * normal

    def log_noise(self, noise: Tensor) -> Tensor:
        flat, d = noise.flatten(1), self.extra
        n = flat.shape[1]
        volume = math.lgamma((n + d) / 2) - math.lgamma(d / 2) - n / 2 * math.log(math.pi * d)
        return volume - (n + d) / 2 * torch.log1p(flat.square().sum(1) / d)

"""Diffusion that never leaves a box: noise and draws are reflected at its faces."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.likelihood import EXACT_TRACE, divergence, signs_of
from modules.generative.gaussian.paths import VarianceExploding, along
from modules.generative.gaussian.weightings import times_of
from modules.method import Method

SWITCH = 0.5
"""Noise level above which the cosine series is summed, and below it the images: either leaves less than 1e-12 out."""

TERMS = 4
"""Terms of the cosine series, and images on either side."""


class ReflectedDiffusion(Method):
    """Learns the score s of data in a box under Brownian motion that is reflected at its faces, and follows it back.

    In coordinates from 0 to 1, at the noise level sigma(t), a record x_0 has spread to a product over components of

        p(x | x_0) = sum_k N(x; x_0 + 2k, sigma^2) + N(x; -x_0 + 2k, sigma^2)
                   = 1 + 2 sum_k exp(-(k pi sigma)^2 / 2) cos(k pi x_0) cos(k pi x)

    which ends as the uniform law. The network gives sigma s, and minimises E |sigma s - sigma d log p(x | x_0) / dx|^2.
    With u = sigma^2 falling from step to step by h, and draws reflected into the box after each,

        SDE   x <- x + h s + sqrt(h) z
        ODE   dx / d ln sigma = -sigma^2 s, whose divergence gives the likelihood

    Lou and Ermon 2023, "Reflected Diffusion Models", sections 3 to 5.

    Deviations: (1) squared error of sigma s, t uniform. (2) The score is not forced to have no component across a face;
    the exact one has none. (3) The SDE ends with a step of the ODE's drift from the smallest noise level to zero.

    Args:
        spec: images or vectors with known bounds.
        low: the smallest noise level, in units of the box. Default 0.01, the paper's for images.
        high: the largest; at 1.5 the law is uniform to 1e-4. Default 5, the paper's.
        sampler: `sde` or `ode`.
        steps: of the sampler, evenly in ln sigma.
        likelihood_steps: steps of the likelihood's flow, four evaluations each.
        exact_trace: dimensions up to which its divergence is exact.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: data without bounds, an unknown sampler, no step.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    papers = ("lou2023reflected",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        low: float = 0.01,
        high: float = 5.0,
        sampler: Literal["sde", "ode"] = "sde",
        steps: int = 100,
        likelihood_steps: int = 16,
        exact_trace: int = EXACT_TRACE,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if self.spec.bounds is None:
            raise UserError(f"'{self.spec.name}' has no bounds: there is no box.", "data=digits has them")
        if sampler not in ("sde", "ode") or steps < 1:
            raise UserError(f"model.sampler={sampler} model.steps={steps}: sde or ode, in one step or more.")
        self.path = VarianceExploding(low, high)
        self.floor, self.size = self.spec.bounds[0], self.spec.bounds[1] - self.spec.bounds[0]
        self.sampler, self.steps = sampler, steps
        self.likelihood_steps, self.exact_trace = likelihood_steps, exact_trace
        self.net = self.build(self.spec.shape, self.spec.shape, time=True)

    def scaled_score(self, x: Tensor, t: Tensor) -> Tensor:
        """sigma times the score (B, ...), at x (B, ...) in the box [0, 1]^d and times t (B,)."""
        return self.net(2 * x - 1, t)

    def loss(self, batch: Unlabelled) -> Tensor:
        clean = (batch.x - self.floor) / self.size
        t = times_of("uniform", self.path, len(clean), clean)
        sigma = along(self.path.sigma(t), clean)
        x = reflected(clean + sigma * torch.randn_like(clean))
        return (self.scaled_score(x, t) - sigma * kernel_score(x, clean, sigma)).square().mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), all in the box."""
        like = next(self.parameters())
        x = torch.rand(n, *self.spec.shape, device=like.device, dtype=like.dtype)
        for t, earlier in pairwise(torch.linspace(1, 0, self.steps + 1).tolist()):
            x = self.step(x, t, earlier)
        return self.floor + self.size * reflected(x + self.path.low * self.at(x, 0.0))

    def step(self, x: Tensor, t: float, earlier: float) -> Tensor:
        """x (B, ...) at a time -> x at an earlier one, reflected."""
        sigma, less = (float(self.path.sigma(torch.tensor(time))) for time in (t, earlier))
        fall = sigma**2 - less**2
        if self.sampler == "sde":
            return reflected(x + fall / sigma * self.at(x, t) + math.sqrt(fall) * torch.randn_like(x))
        stride = math.log(sigma / less)
        guess = reflected(x + stride / 2 * sigma * self.at(x, t))
        middle = math.sqrt(sigma * less)
        return reflected(x + stride * middle * self.at(guess, (t + earlier) / 2))

    def at(self, x: Tensor, t: float) -> Tensor:
        """`scaled_score` of records that share their time."""
        return self.scaled_score(x, x.new_full((len(x),), t))

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density under the ODE (B,), an integral of its divergence."""
        from torchdiffeq import odeint

        x = (x - self.floor) / self.size
        probe = None if x[0].numel() <= self.exact_trace else signs_of(x)
        pace = math.log(self.path.high / self.path.low)

        def flow(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            sigma = self.path.sigma(t).to(x)

            def velocity(y: Tensor) -> Tensor:
                beyond = torch.where(y.remainder(2) > 1, -1, 1)  # behind a face everything is mirrored
                return -pace * sigma * beyond * self.scaled_score(reflected(y), t.to(x).expand(len(y)))

            return divergence(velocity, state[0], probe)

        span = torch.linspace(0, 1, self.likelihood_steps + 1, dtype=torch.float64)
        _, integral = (part[-1] for part in odeint(flow, (x, x.new_zeros(len(x))), span, method="rk4"))
        return integral - x[0].numel() * math.log(self.size)


def reflected(x: Tensor) -> Tensor:
    """x folded into [0, 1] by reflections at 0 and 1."""
    x = x.remainder(2)
    return torch.where(x > 1, 2 - x, x)


def kernel_score(x: Tensor, clean: Tensor, sigma: Tensor) -> Tensor:
    """Derivative of ln p(x | x_0) by x, component by component: x and x_0 (B, ...) in [0, 1], sigma (B, 1, ...)."""
    small, large = sigma.clamp_max(SWITCH), sigma.clamp_min(SWITCH)
    shifts = 2 * torch.arange(-TERMS, TERMS + 1, device=x.device, dtype=x.dtype)
    offsets = torch.cat([(x - clean)[..., None] - shifts, (x + clean)[..., None] - shifts], -1)
    share = (-0.5 * (offsets / small[..., None]).square()).softmax(-1)
    images = -(share * offsets).sum(-1) / small.square()
    k = math.pi * torch.arange(1, TERMS + 1, device=x.device, dtype=x.dtype)
    waves = 2 * (-0.5 * (k * large[..., None]).square()).exp() * (k * clean[..., None]).cos()
    density = 1 + (waves * (k * x[..., None]).cos()).sum(-1)
    series = -(waves * k * (k * x[..., None]).sin()).sum(-1) / density
    return torch.where(sigma < SWITCH, images, series)

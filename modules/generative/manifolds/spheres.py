"""Products of unit spheres: the sphere, the torus, and products of more."""

from __future__ import annotations

import math

import torch
from torch import Tensor

TINY = 1e-12


class Spheres:
    """`factors` unit spheres of `size` coordinates each, points (..., factors size) of norm 1 in each factor.

    (1, 3) is the sphere, (2, 2) the torus. Everything is of the product of round metrics.

    Args:
        factors: how many.
        size: coordinates of one, at least 2.
    """

    def __init__(self, factors: int, size: int) -> None:
        self.factors, self.size = factors, size

    @property
    def log_volume(self) -> float:
        """Natural log of the volume."""
        one = math.log(2) + self.size / 2 * math.log(math.pi) - math.lgamma(self.size / 2)
        return self.factors * one

    def split(self, x: Tensor) -> Tensor:
        """(..., factors size) -> (..., factors, size)."""
        return x.unflatten(-1, (self.factors, self.size))

    def project(self, x: Tensor) -> Tensor:
        """The nearest point of the manifold, (..., factors size)."""
        x = self.split(x)
        return (x / x.square().sum(-1, keepdim=True).sqrt()).flatten(-2)

    def tangent(self, x: Tensor, v: Tensor) -> Tensor:
        """The part of v that is tangent at points x, both (..., factors size)."""
        x, v = self.split(x), self.split(v)
        return (v - (x * v).sum(-1, keepdim=True) * x).flatten(-2)

    def exp(self, x: Tensor, v: Tensor) -> Tensor:
        """Where the geodesic from x with the tangent velocity v is after a unit of time."""
        x, v = self.split(x), self.split(v)
        length = v.square().sum(-1, keepdim=True).clamp_min(TINY).sqrt()
        return self.project((length.cos() * x + length.sin() / length * v).flatten(-2))

    def log(self, x: Tensor, z: Tensor) -> Tensor:
        """The tangent velocity at x with which a shortest geodesic reaches z in a unit of time."""
        x, z = self.split(x), self.split(z)
        inner = (x * z).sum(-1, keepdim=True)
        across = z - inner * x
        length = across.square().sum(-1, keepdim=True).clamp_min(TINY**2).sqrt()
        return (torch.atan2(length, inner) / length * across).flatten(-2)

    def uniform(self, n: int, like: Tensor) -> Tensor:
        """n uniform points (n, factors size)."""
        return self.project(torch.randn(n, self.factors * self.size, device=like.device, dtype=like.dtype))

    def noise(self, x: Tensor) -> Tensor:
        """Standard normal tangent vectors at x."""
        return self.tangent(x, torch.randn_like(x))

    def heat_score(self, x: Tensor, x0: Tensor, tau: Tensor, terms: int = 40, switch: float = 0.1) -> Tensor:
        """Gradient at x of the log heat kernel, the law of Brownian motion from x0 with the variance tau (B,) per
        tangent direction: its series in eigenfunctions with `terms` terms, and below `switch` log_x(x0) / tau
        (Varadhan's asymptotics).

        On a circle it is 1 + 2 sum_k e^(-k^2 tau / 2) cos(k theta) and on a sphere
        sum_k (2 k + 1) e^(-k (k + 1) tau / 2) P_k(cos theta), up to a factor.

        Args:
            x: points (B, factors size); `size` 2 or 3.
            x0: points, likewise.
            tau: (B,).
            terms: of the series.
            switch: least tau of the series.
        """
        near = self.log(x, x0) / tau[:, None]
        a, b = self.split(x), self.split(x0)
        inner = (a * b).sum(-1).clamp(-1, 1)  # (B, factors)
        large = tau.clamp_min(switch)[:, None]
        # Chebyshev's and Legendre's recursions of polynomials of cos(theta) and of their derivatives.
        before, value = torch.ones_like(inner), inner
        slope_before, slope = torch.zeros_like(inner), torch.ones_like(inner)
        density, change = torch.ones_like(inner), torch.zeros_like(inner)
        for k in range(1, terms + 1):
            weight = (
                2 * (-0.5 * k * k * large).exp() if self.size == 2 else (2 * k + 1) * (-0.5 * k * (k + 1) * large).exp()
            )
            density, change = density + weight * value, change + weight * slope
            high, low = (2.0, 1.0) if self.size == 2 else ((2 * k + 1) / (k + 1), k / (k + 1))
            slope_before, slope = slope, high * (value + inner * slope) - low * slope_before
            before, value = value, high * inner * value - low * before
        # Rounding leaves little of the density far away, where it hardly matters.
        far = self.tangent(x, ((change / density.clamp_min(1e-6))[..., None] * b).flatten(-2))
        return torch.where(tau[:, None] < switch, near, far)

"""Riemannian score-based generative modelling: Brownian motion on a manifold, and its reverse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.manifolds.model import ManifoldModel


class RiemannianScore(ManifoldModel):
    """Learns the score of data under Brownian motion, at the time 1 - t of variance tau per tangent direction,

        dX = sqrt(b) dB,    b = low + (high - low) (1 - t),    tau_t = int_t^1 b

    from geodesic random walks that start at records, by denoising score matching with the heat kernel:

        loss   E w^2 |s(X_t, t) - d log p_tau(X_t | x_1)|^2,   w^2 = 1 - e^(-tau),   t uniform

    where the network gives w s. Backwards, dX = b s dt + sqrt(b) dB; the probability flow is b s / 2.

    De Bortoli et al. 2022, "Riemannian Score-Based Generative Modelling" (RSGM), whose kernel is that of
    `Spheres.heat_score`: a truncated series, and Varadhan's asymptotics for small tau.

    Deviation: weights and rates are ours, as I have not seen the authors' for this loss.

    Args:
        spec: vectors on products of spheres.
        low: b at the data.
        high: b at the uniform law.
        parts: the arguments of `ManifoldModel`.

    Raises:
        UserError: rates that are not above 0.
    """

    papers = ("jo2024generative",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], low: float = 0.001, high: float = 8.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if min(low, high) <= 0:
            raise UserError(f"model.low={low} model.high={high}: variances per time, above 0.")
        self.low, self.high = low, high
        self.net = self.build(self.spec.shape, self.spec.shape, time=True)

    def rate(self, t: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * (1 - t)

    def variance(self, t: Tensor) -> Tensor:
        """tau at times t, in the shape of t."""
        return self.low * (1 - t) + (self.high - self.low) * (1 - t).square() / 2

    def scale(self, t: Tensor) -> Tensor:
        """w (B, 1) at times t (B,)."""
        return (-torch.expm1(-self.variance(t))).sqrt()[:, None]

    def score(self, x: Tensor, t: Tensor) -> Tensor:
        """s (B, D) at x (B, D) and times t (B,)."""
        return self.at(self.net, x, t) / self.scale(t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.rate(t)[:, None] * self.score(x, t)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * self.drift(x, t)

    def loss(self, batch: Unlabelled) -> Tensor:
        clean = self.checked(batch.x)
        t = self.margin + (1 - 2 * self.margin) * torch.rand(len(clean), device=clean.device, dtype=clean.dtype)
        tau, x = self.variance(t), clean
        for _ in range(self.simulation_steps):
            x = self.moved(x, torch.zeros_like(x), tau[:, None] / self.simulation_steps)
        wanted = self.scale(t) * self.manifold.heat_score(x, clean, tau)
        return (self.at(self.net, x, t) - wanted).square().sum(1).mean()

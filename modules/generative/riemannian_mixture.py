"""Riemannian diffusion mixture: bridges on a manifold, mixed over the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.manifolds.model import ManifoldModel


class RiemannianMixture(ManifoldModel):
    """Learns the drifts of a mixture of bridges from the uniform law at t = 0 to the data at t = 1, and of its reverse.

    The logarithm bridge to z, and, backwards in time, that to a uniform draw y,

        dX = b_t / (tau_1 - tau_t) log_X(z) dt + sqrt(b_t) dB,     dX = b_t / tau_t log_X(y) dt + sqrt(b_t) dB

    with b_t = rate (1 - t) and tau_t = int_0^t b, are mixed over z and y by conditional expectations of their drifts,
    which the networks f and g regress at X_t of a random walk that starts from y with the first where t < 1/2, and from
    z with the second elsewhere: never more than half of the way, in few steps (two-way bridge matching).

        loss   E (|f(X_t, t) - b_t / (tau_1 - tau_t) log(z)|^2 + |g(X_t, t) - b_t / tau_t log(y)|^2) / b_t

    with t of the density 1 / b_t and equal weights. Draws follow f; the probability flow is (f - g) / 2.

    Jo and Hwang 2024, "Generative Modeling on Manifolds Through Mixture of Riemannian Diffusion Processes", and the
    authors' code, for b_t, the law of t and the number of steps. No heat kernel is needed.

    Deviations: (1) networks of any kind, theirs are MLPs of 6 to 12 layers. (2) The likelihood by Runge and Kutta's
    method of fixed steps. (3) No logarithm of meshes.

    Args:
        spec: vectors on products of spheres.
        rate: b_0. Default 0.2, the authors'.
        parts: the arguments of `ManifoldModel`.

    Raises:
        UserError: no rate.
    """

    papers = ("jo2024generative",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], rate: float = 0.2, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if rate <= 0:
            raise UserError(f"model.rate={rate}: a variance per time, above 0.")
        self.level = rate
        self.forward_net = self.build(self.spec.shape, self.spec.shape, time=True)
        self.backward_net = self.build(self.spec.shape, self.spec.shape, time=True)

    def rate(self, t: Tensor) -> Tensor:
        return self.level * (1 - t)

    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        return self.at(self.forward_net, x, t)

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        return 0.5 * (self.at(self.forward_net, x, t) - self.at(self.backward_net, x, t))

    def bridge(self, x: Tensor, to: Tensor, t: Tensor, forward: Tensor) -> Tensor:
        """Drift (B, D) at x (B, D) of bridges to points (B, D) at t (B, 1), backwards in time where not `forward`."""
        # b / (tau_1 - tau) and b / tau; neither is asked for where it is infinite.
        pace = torch.where(forward, 2 / (1 - t), (1 - t) / (t - t.square() / 2))
        return pace * self.manifold.log(x, to)

    def bridged(self, y: Tensor, z: Tensor, t: Tensor) -> Tensor:
        """X_t (B, D) of bridges between y at 0 and z at 1, each (B, D), at times t (B, 1), from the nearer end."""
        forward = t < 0.5
        x, to = torch.where(forward, y, z), torch.where(forward, z, y)
        length = torch.where(forward, t, 1 - t) / self.simulation_steps
        for i in range(self.simulation_steps):
            now = torch.where(forward, i * length, 1 - i * length)
            x = self.moved(x, length * self.bridge(x, to, now, forward), length * self.rate(now))
        return x

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        z = self.checked(batch.x)
        y = self.manifold.uniform(len(z), z)
        low, high = self.margin, 1 - self.margin
        t = 1 - high * (low / high) ** torch.rand(len(z), 1, device=z.device, dtype=z.dtype)
        with torch.no_grad():
            x = self.bridged(y, z, t)
        always = torch.ones_like(t, dtype=torch.bool)
        return {
            "forward": self.error(self.at(self.forward_net, x, t[:, 0]), self.bridge(x, z, t, always)),
            "backward": self.error(self.at(self.backward_net, x, t[:, 0]), self.bridge(x, y, t, ~always)),
        }

    @staticmethod
    def error(found: Tensor, wanted: Tensor) -> Tensor:
        return (found - wanted).square().sum(1).mean()

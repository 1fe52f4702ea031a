"""What models of a diffusion on a manifold have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.likelihood import divergence
from modules.generative.manifolds.spheres import Spheres
from modules.method import Method

ON = 1e-4
"""How far from the manifold a record may be."""


class ManifoldModel(Method, ABC):
    """A diffusion on products of spheres from the uniform law at t = 0 to the data at t = 1:

        dX = drift(X, t) dt + sqrt(rate(t)) dB,    with the marginals of    dX / dt = velocity(X, t)

    Draws follow the first by geodesic random walks, X <- exp_X(drift dt + sqrt(rate dt) noise). The second gives

        log p(x) = log of the uniform density - int_0^1 div velocity(X_t, t) dt

    by Runge and Kutta's fourth order method. A velocity that is extended from the manifold constantly along its normals
    has its divergence on the manifold as its divergence in space, which is computed exactly. Densities are with respect
    to the manifold's volume.

    Args:
        spec: vectors, points of the product.
        factors: spheres of which it is one: 1 for the sphere of vectors of 3, 2 for the torus of vectors of 4.
        simulation_steps: steps of random walks in training.
        steps: steps of draws.
        likelihood_steps: steps of the likelihood, four evaluations each.
        margin: times from 0 to `margin` and from 1 - `margin` to 1 are left out.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: vectors that cannot be split so, circles or spheres apart from size 2 and 3; no step; a margin
            outside (0, 0.5); records that are not on the manifold.
    """

    batch_type = Unlabelled
    kinds = ("vector",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        factors: int = 1,
        simulation_steps: int = 15,
        steps: int = 100,
        likelihood_steps: int = 32,
        margin: float = 1e-3,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        size, left = divmod(self.spec.dimensions, factors)
        if left or size not in (2, 3):
            raise UserError(
                f"model.factors={factors}: each has 2 or 3 of the {self.spec.dimensions} coordinates.",
                "data=sphere model.factors=1, or data=torus model.factors=2",
            )
        if min(simulation_steps, steps, likelihood_steps) < 1 or not 0 < margin < 0.5:
            raise UserError(f"model.steps={steps} model.margin={margin}: one step or more, and a margin in (0, 0.5).")
        self.manifold = Spheres(factors, size)
        self.simulation_steps, self.steps, self.likelihood_steps = simulation_steps, steps, likelihood_steps
        self.margin = margin

    @abstractmethod
    def rate(self, t: Tensor) -> Tensor:
        """Variance per time and tangent direction, in the shape of t."""

    @abstractmethod
    def drift(self, x: Tensor, t: Tensor) -> Tensor:
        """Tangent vectors (B, D) at x (B, D), of times (B,)."""

    @abstractmethod
    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """The same of the probability flow."""

    def at(self, net: nn.Module, x: Tensor, t: Tensor) -> Tensor:
        """A network's vectors at x (B, D) and times (B,), made tangent."""
        return self.manifold.tangent(x, net(x, t))

    def checked(self, x: Tensor) -> Tensor:
        """Records (B, D) as they are.

        Raises:
            UserError: some are not on the manifold.
        """
        if (self.manifold.split(x).square().sum(-1) - 1).abs().max() > ON:
            raise UserError(
                f"'{self.spec.name}' has records that do not lie on the spheres.", "data=sphere, torus or earth"
            )
        return x

    def moved(self, x: Tensor, drift: Tensor, variance: Tensor) -> Tensor:
        """x (B, D) after a step of a geodesic random walk with a drift (B, D) and a variance (B, 1) per direction."""
        return self.manifold.exp(x, drift + variance.sqrt() * self.manifold.noise(x))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, D)."""
        x = self.manifold.uniform(n, next(self.parameters()))
        times = torch.linspace(0, 1 - self.margin, self.steps + 1)[:-1].to(x)
        h = 1 / self.steps
        for t in times:
            t = t.expand(n)
            x = self.moved(x, h * self.drift(x, t), h * self.rate(t)[:, None])
        return x

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density under the probability flow (B,)."""
        from torchdiffeq import odeint

        def flow(t: Tensor, state: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
            time = t.to(x).expand(len(x))
            return divergence(lambda y: self.velocity(self.manifold.project(y), time), state[0], None)

        span = torch.linspace(1 - self.margin, self.margin, self.likelihood_steps + 1, dtype=torch.float64)
        _, integral = (part[-1] for part in odeint(flow, (self.checked(x), x.new_zeros(len(x))), span, method="rk4"))
        return integral - self.manifold.log_volume

"""Energy-based models: unnormalised densities, their normaliser, and Langevin steps."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import Method

QUADRATURE = {1: 4001, 2: 301}
"""Points per axis of the grid on which a normaliser is summed, by dimensions."""


class EnergyModel(Method, ABC):
    """p(x) = p0(x) / Z with p0 a network's, learned with draws of a noise law q = N(m, s^2 I), which give Z as well:

        Z = int p0(x) dx = E_q[p0(z) / q(z)]

    A subclass says what it descends on data and noise. In one and two dimensions Z is a sum over a grid, with an error
    far below that of training: there `log_prob` is a density. In more dimensions nobody knows Z, and it is NaN.

    Args:
        spec: images or vectors.
        noise_mean: m, of every component.
        noise_std: s, in the units of the records; the noise should cover the data.
        noise_ratio: draws of the noise per record.
        tilted: log p0(x) = net(x) + log q(x), which has the noise's tails whatever the network does; False: net(x).
        extent: half the side of the grid for Z, around m.
        steps: Langevin steps of `sample`, from draws of the noise.
        step_size: e in x + e^2 / 2 grad log p0(x) + e N(0, I).
        parts: `net` (record to one number), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a size that is not positive.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        noise_mean: float = 0.0,
        noise_std: float = 3.0,
        noise_ratio: int = 1,
        tilted: bool = True,
        extent: float = 12.0,
        steps: int = 200,
        step_size: float = 0.1,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        sizes = {"noise_std": noise_std, "noise_ratio": noise_ratio, "extent": extent, "step_size": step_size}
        for name, value in sizes.items():
            if value <= 0:
                raise UserError(f"model.{name}={value}: it lies above 0.")
        self.noise = torch.distributions.Normal(noise_mean, noise_std)
        self.noise_ratio, self.tilted, self.extent = noise_ratio, tilted, extent
        self.steps, self.step_size = steps, step_size
        self.net = self.build(self.spec.shape, (1,))
        linear = [layer for layer in self.net.modules() if isinstance(layer, nn.Linear)]
        if linear and linear[-1].bias is not None:
            linear[-1].bias.requires_grad_(False)  # a constant in log p0 cancels against log Z

    @abstractmethod
    def contrast(self, data: Tensor, noise: Tensor, ratio: Tensor) -> dict[str, Tensor]:
        """What to descend.

        Args:
            data: log p0(x) - log q(x) at the data (B,).
            noise: the same at draws of the noise (B * noise_ratio,).
            ratio: mean of log q(x) at the data, to make a log-likelihood of it.
        """

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        x = batch.x
        z = self.draw(len(x) * self.noise_ratio, like=x)
        data, noise = self.log_ratio(torch.cat([x, z])).split([len(x), len(z)])
        return self.contrast(data, noise, self.noise_log_prob(x).mean())

    def draw(self, n: int, like: Tensor) -> Tensor:
        """n draws of the noise (n, ...)."""
        e = torch.randn(n, *self.spec.shape, device=like.device, dtype=like.dtype)
        return self.noise.loc.to(like) + self.noise.scale.to(like) * e

    def noise_log_prob(self, x: Tensor) -> Tensor:
        """log q(x) (B,)."""
        e = (x - self.noise.loc.to(x)) / self.noise.scale.to(x)
        constant = self.noise.scale.log().to(x) + 0.5 * math.log(2 * math.pi)
        return -(0.5 * e.square() + constant).flatten(1).sum(1)

    def log_ratio(self, x: Tensor) -> Tensor:
        """log p0(x) - log q(x) (B,)."""
        value = self.net(x).squeeze(1)
        return value if self.tilted else value - self.noise_log_prob(x)

    def log_unnormalised(self, x: Tensor) -> Tensor:
        """log p0(x) (B,)."""
        value = self.net(x).squeeze(1)
        return value + self.noise_log_prob(x) if self.tilted else value

    @torch.no_grad()
    def log_normaliser(self) -> Tensor:
        """log Z, by a sum over a grid of half side `extent` around m; NaN above two dimensions."""
        weight = next(self.parameters())
        if self.spec.dimensions not in QUADRATURE:
            return weight.new_tensor(math.nan)
        points = QUADRATURE[self.spec.dimensions]
        axis = self.noise.loc.to(weight) + self.extent * torch.linspace(-1, 1, points).to(weight)
        grid = torch.cartesian_prod(*[axis] * self.spec.dimensions).view(-1, *self.spec.shape)
        log_cell = self.spec.dimensions * math.log(2 * self.extent / (points - 1))
        return torch.cat([self.log_unnormalised(rows) for rows in grid.split(10_000)]).logsumexp(0) + log_cell

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, ...) -> natural log of the density (B,); NaN above two dimensions."""
        return self.log_unnormalised(x) - self.log_normaliser()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), by Langevin steps from the noise: approximate."""
        x = self.draw(n, like=next(self.parameters()))
        return langevin(self.log_unnormalised, x, self.steps, self.step_size)


def langevin(log_density: Callable[[Tensor], Tensor], x: Tensor, steps: int, step_size: float | Tensor) -> Tensor:
    """Unadjusted Langevin steps x + e^2 / 2 grad log p(x) + e N(0, I).

    Args:
        log_density: (B, ...) -> log p up to a constant (B,).
        x: start (B, ...).
        steps: how many.
        step_size: e, one or one per record and component, broadcast against x.
    """
    for _ in range(steps):
        x = x + 0.5 * step_size**2 * slope(log_density, x) + step_size * torch.randn_like(x)
    return x


def slope(log_density: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """The gradient of a log density at x (B, ...), also where no gradients are recorded, inference mode included."""
    with torch.inference_mode(False), torch.enable_grad():
        x = x.clone().requires_grad_()
        return torch.autograd.grad(log_density(x).sum(), x)[0]

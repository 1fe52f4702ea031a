"""Score distillation sampling: particles that each seek a mode of a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.distillation import Distillation
from modules.generative.gaussian.paths import along
from modules.generative.gaussian.targets import noise_of
from modules.generative.gaussian.weightings import times_of


class ScoreDistillationSampling(Distillation):
    """Particles theta_1, ..., theta_n, each of which descends its own way into the teacher's density:

        theta_i <- theta_i - rate E_{t, eps} sigma(t)^2 (eps_teacher(x_t, t, y_i) - eps) dg / dtheta

    with x_t = alpha g(theta_i) + sigma eps, and here g(theta) = theta: a particle is a record. That is the gradient of
    E_t (sigma / alpha) sigma^2 KL(N(alpha theta_i, sigma^2 I) || p_t): each particle is a law of one point, which goes
    to a mode. `VariationalScoreDistillation` puts the score of all particles' law in the place of eps.

    `sample` takes particles at random, so draws may repeat. Records of the data are only looked at by evaluations.

    Poole et al. 2023, "DreamFusion: Text-to-3D using 2D Diffusion", equation 3, with its w = sigma^2; the baseline of
    Wang et al. 2023, "ProlificDreamer", section 3.3.

    Deviations: (1) no camera and no renderer, as in the experiments of Wang et al. in two dimensions; (2) t over all of
    the path, where the authors leave out 2% at both ends; (3) all particles move in each step.

    Args:
        spec: images or vectors; particles are spread evenly over the teacher's classes, where it has any.
        particles: how many. Our choice, as many as evaluations draw.
        times: law of t, see `Diffusion`. Default uniform, the paper's.
        initial_std: standard deviation of the particles at first. Default 1, that of latents in Wang et al.
        parts: the arguments of `Distillation`.

    Raises:
        UserError: no particles.
    """

    papers = ("wang2023prolificdreamer",)
    turns: ClassVar[tuple[str, ...]] = ("particles",)
    y: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        particles: int = 1000,
        times: str = "uniform",
        initial_std: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if particles < 1:
            raise UserError(f"model.particles={particles}: at least one.")
        self.times = times
        self.particles = nn.ParameterList([initial_std * torch.randn(particles, *self.spec.shape)])
        self.register_buffer("y", torch.arange(particles) % max(1, self.classes))

    @property
    def label(self) -> Tensor | None:
        """Class of each particle int64 (n,); None where the teacher has none."""
        return self.y if self.classes else None

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        theta = self.particles[0]
        return {"particles": (self.direction(theta.detach()) * theta).flatten(1).sum(1).mean()}

    @torch.no_grad()
    def direction(self, theta: Tensor) -> Tensor:
        """sigma^2 (eps_teacher - eps) at random t and eps, for the particles (n, ...): they go against it."""
        t = times_of(self.times, self.path, len(theta), theta)
        noise = self.path.noise(theta)
        x = self.path.noised(theta, t, noise)
        wanted = noise_of(self.guided(x, t, self.label), x, t, self.path)
        return along(self.path.sigma(t).square(), theta) * (wanted - self.own_noise(x, t, noise))

    def own_noise(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """E[eps | x_t] (n, ...) under the law of the particles: of one particle it is the noise that was drawn."""
        return noise

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n of the particles (n, ...), at random; none twice in a call where there are enough."""
        theta = self.particles[0]
        order = torch.cat([torch.randperm(len(theta)) for _ in range(-(-n // len(theta)))])[:n]
        return theta[order.to(theta.device)]

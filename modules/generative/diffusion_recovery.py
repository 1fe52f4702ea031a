"""Energy-based models along a diffusion, each of a record given the noisier one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.energy import langevin
from modules.method import Method


class DiffusionRecovery(Method):
    """T energies along x_t = a_t x_{t-1} + s_t e, a_t^2 + s_t^2 = 1, learned by the likelihood of recovering a record.

    With y = a_t x_{t-1}, the law of y given x_t is

        p(y | x_t) proportional to exp(f(y, t) - |x_t - y|^2 / (2 s_t^2))

    Its second term makes it nearly unimodal where s_t is small, so that a few Langevin steps reach it, which no law of
    x alone allows. Those steps start at x_t, and the gradient of the log-likelihood is that of f at the data minus that
    of f where the steps end. Sampling goes from noise x_T down: y by Langevin steps, x_{t-1} = y / a_t.

    Gao et al. 2021, "Learning Energy-Based Models by Diffusion Recovery Likelihood", sections 3.2 to 3.4. The levels
    are those of Zhu et al. 2024: log SNR is a cosine schedule from 9.8 to -5.1.

    Deviations: (1) f(y, t) = <y, net(y, t)> / s_t^2, so that one network of fields serves vectors and images;
    (2) a step is in units of a_t s_t, the standard deviation of y given x_t for data N(0, I), where theirs is about
    0.014 s_t, so that few steps come near to that law, and networks need no spectral norm; (3) each level's gradient
    is weighted by s_t.

    Args:
        spec: images or vectors, about of unit variance.
        levels: T. Default 6, the authors' code.
        steps: Langevin steps K per level, in training and sampling. Default 30, the paper.
        step_size: b; a step is y + e^2 / 2 grad log p(y | x_t) + e N(0, I) with e = b a_t s_t. Default 0.5, our choice.
        shared_noise: x_{t-1} and x_t come from the same draw of noise; the expected gradient knows their marginals
            alone, and varies less (Zhu et al. 2024). False: x_t is x_{t-1} with more noise.
        parts: `net` (a record and a time to a field), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no level, no step, a step size that is not positive.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        levels: int = 6,
        steps: int = 30,
        step_size: float = 0.5,
        shared_noise: bool = False,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, value in (("levels", levels), ("steps", steps), ("step_size", step_size)):
            if value <= 0:
                raise UserError(f"model.{name}={value}: it lies above 0.")
        self.levels, self.steps, self.step_size, self.shared_noise = levels, steps, step_size, shared_noise
        self.register_buffer("signal", signal(levels), persistent=False)
        self.net = self.build(self.spec.shape, self.spec.shape, time=True)

    # The schedule, at levels int64 (B,), against records (B, ...)

    def kept(self, level: Tensor) -> Tensor:
        """Variance that x_t keeps of x_0."""
        return self.signal[level].view(-1, *(1,) * len(self.spec.shape))

    def scale(self, level: Tensor) -> tuple[Tensor, Tensor]:
        """a_t and s_t."""
        share = self.kept(level) / self.kept(level - 1)
        return share.sqrt(), (1 - share).sqrt()

    def time(self, level: Tensor) -> Tensor:
        """What a network gets for a level (B,): in (0, 1]."""
        return level / self.levels

    # The model

    def energy(self, y: Tensor, level: Tensor) -> Tensor:
        """s_t^2 f(y, t) (B,)."""
        return (y * self.net(y, self.time(level))).flatten(1).sum(1)

    def propose(self, x: Tensor, level: Tensor) -> Tensor:
        """Where Langevin steps towards p(y | x_t = x) start (B, ...)."""
        return x

    def refine(self, y: Tensor, x: Tensor, level: Tensor) -> Tensor:
        """Langevin steps towards p(y | x_t = x), from y."""
        a, s = self.scale(level)

        def log_density(y: Tensor) -> Tensor:
            return (self.energy(y, level) - 0.5 * (x - y).flatten(1).square().sum(1)) / s.flatten().square()

        return langevin(log_density, y, self.steps, self.step_size * a * s)

    def diffuse(self, x: Tensor, level: Tensor) -> tuple[Tensor, Tensor]:
        """Clean records -> y and x_t."""
        a, s = self.scale(level)
        e = torch.randn_like(x)
        before = self.kept(level - 1).sqrt() * x + (1 - self.kept(level - 1)).sqrt() * e
        if self.shared_noise:
            return a * before, self.kept(level).sqrt() * x + (1 - self.kept(level)).sqrt() * e
        return a * before, a * before + s * torch.randn_like(x)

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        level = torch.randint(1, self.levels + 1, (len(batch.x),), device=batch.x.device)
        y, x = self.diffuse(batch.x, level)
        return self.contrast(y, x, level)

    def contrast(self, y: Tensor, x: Tensor, level: Tensor) -> dict[str, Tensor]:
        """The terms at records y = a_t x_{t-1} and x_t (B, ...)."""
        refined = self.refine(self.propose(x, level).detach(), x, level)
        return {"energy": self.gap(refined, y, level)}

    def gap(self, refined: Tensor, y: Tensor, level: Tensor) -> Tensor:
        """Mean of s_t (f(refined) - f(y))."""
        _, s = self.scale(level)
        return ((self.energy(refined, level) - self.energy(y, level)) / s.flatten()).mean()

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), from noise down through all levels."""
        x = torch.randn(n, *self.spec.shape, device=self.signal.device, dtype=self.signal.dtype)
        for t in range(self.levels, 0, -1):
            level = torch.full((n,), t, device=x.device)
            x = self.refine(self.propose(x, level), x, level) / self.scale(level)[0]
        return x


def signal(levels: int, highest: float = 9.8, lowest: float = -5.1) -> Tensor:
    """sigmoid(log SNR) at levels 0 ... T (T + 1,), with log SNR(u) = -2 log tan(c u + d), u = t / T, between both."""
    first, last = math.atan(math.exp(-0.5 * highest)), math.atan(math.exp(-0.5 * lowest))
    angle = torch.linspace(first, last, levels + 1, dtype=torch.float64)
    return angle.cos().square().float()

"""Consistency trajectory models: a network that jumps from any time of a diffusion model's flow to any earlier one."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion
from modules.generative.distillation import Distillation, denoising, student_of
from modules.generative.gaussian.model import Node
from modules.generative.gaussian.paths import along
from modules.generative.gaussian.targets import data_of, noise_of, target_of
from modules.generative.timesteps.grids import NoiseRatio
from modules.networks.time import with_horizon


class ConsistencyTrajectory(Distillation):
    """Learns jumps along the teacher's probability flow, from a time t to any earlier time s,

        G(x_t, t, s) = alpha_s g(x_t, t, s) + sigma_s (x_t - alpha_t g(x_t, t, s)) / sigma_t

    which is (s / t) x_t + (1 - s / t) g on EDM's path. G(x, t, t) = x; g(x, t, t) is E[x_0 | x_t], and G(x, t, start),
    where `start` is the path's smallest time, a consistency model. With t > u >= s of a grid, the student descends

        E |J(G(x_t, t, s)) - J(G'(Solver(x_t, t to u), u, s))|^2 + dsm (its denoising loss) - gan E D(G(x_T, T, start))

    with J(x) = G'(x, s, start), G' a moving average of the student without a gradient, and Solver Heun's method for the
    teacher along the grid. In turns, a discriminator D descends E relu(1 - D(x_0)) + E relu(1 + D(G(x_T, T, start))).

    Draws make `jumps` jumps over the grid of NFE + 1 times. A jump goes from t_n to the noise ratio
    sqrt(1 - gamma^2) r_{n+1}, and noise of gamma r_{n+1} comes on top: with gamma = 0 the flow, with gamma = 1 a
    consistency model's sampler. `ends=data most=1 dsm=0 gan=0 gamma=1` is consistency distillation.

    Kim et al. 2024, "Consistency Trajectory Models: Learning Probability Flow ODE Trajectory of Diffusion". The paper's
    text was not at hand: equations and defaults are those of the authors' code (sony/ctm).

    Deviations: (1) any Gaussian path, in sigma / alpha where they have sigma; (2) squared error instead of LPIPS;
    (3) `dsm` and `gan` are numbers, where theirs follow the ratio of gradients; (4) a plain discriminator of records,
    without augmentation; (5) the second time begins without effect; (6) records without classes; (7) both jumps of the
    target are G', where the code's first is the student's own.

    Args:
        spec: images or vectors.
        path: config of the teacher's path.
        levels: times of the grid, equally far apart in (sigma / alpha)^(1 / 7), at least 2. Default 18, CIFAR-10 there.
        most: steps of the grid from t to u, at most; their number k is drawn per batch with probability proportional
            to k. At least 1, below `levels`. Default 17, there.
        ends: where jumps go in training: `any` earlier time, or `data`, the path's start.
        dsm: weight of the denoising loss, at least 0. Default 1, there.
        gan: weight of the adversarial term, at least 0; 0 leaves the discriminator out. Default 0.1, ours.
        decay: of the moving average G', in [0, 1). Default 0.999, there.
        jumps: of a draw, at least 1.
        gamma: share of the noise that is drawn anew after each jump but the last, from 0 to 1.
        data_std: see `Diffusion`; for a new network, where the teacher is exact.
        discriminator_optimizer: arguments of the optimizer that differ for the discriminator.
        parts: the arguments of `Distillation`.

    Raises:
        UserError: a number outside of its range, unknown ends, a network without a time.
    """

    papers = ("kim2024consistency",)
    turns: ClassVar[tuple[str, ...]] = ("student", "discriminator")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        levels: int = 18,
        most: int = 17,
        ends: str = "any",
        dsm: float = 1.0,
        gan: float = 0.1,
        decay: float = 0.999,
        jumps: int = 1,
        gamma: float = 0.0,
        data_std: float = 0.5,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, path=path, **parts)
        if not 1 <= most < levels:
            raise UserError(f"model.most={most} model.levels={levels}: from one step of the grid to all of them.")
        if ends not in ("any", "data"):
            raise UserError(f"model.ends={ends} is unknown.", "there are: any, data")
        if min(dsm, gan) < 0:
            raise UserError(f"model.dsm={dsm} model.gan={gan}: a weight is at least 0.")
        if jumps < 1 or not 0 <= gamma <= 1 or not 0 <= decay < 1:
            raise UserError(
                f"model.jumps={jumps} model.gamma={gamma} model.decay={decay}: at least one jump, a share from 0 to 1, "
                "and a decay from 0 to below 1."
            )
        self.most, self.ends, self.dsm, self.gan, self.decay = most, ends, dsm, gan, decay
        self.gamma, self.discriminator_optimizer = gamma, discriminator_optimizer or {}
        self.grid, self.stops = (NoiseRatio(n).times(self.path) for n in (levels, jumps + 1))
        self.student = student_of(self.teacher, path, self._net, data_std)
        with_horizon(self.student.net)
        self.target = deepcopy(self.student).requires_grad_(False)
        if gan:
            self.discriminator = self.build(self.spec.shape, self.spec.shape)
        else:
            self.turns = ("student",)  # type: ignore[misc]

    def changes(self, player: str) -> Mapping[str, Any]:
        return self.discriminator_optimizer if player == "discriminator" else {}

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        if player == "discriminator":
            with torch.no_grad():
                fake = self.drawn_from(batch.x)
            return {"discriminator": (F.relu(1 - self.judged(batch.x)) + F.relu(1 + self.judged(fake))).mean()}
        terms = {"trajectory": self.inconsistency(batch.x)}
        if self.dsm:
            terms["denoising"] = self.dsm * denoising(self.student, batch.x, None)
        if self.gan:
            terms["adversarial"] = -self.gan * self.judged(self.drawn_from(batch.x)).mean()
        return terms

    def training_step(self, batch: Unlabelled, batch_idx: int) -> None:  # type: ignore[override]
        super().training_step(batch, batch_idx)
        self.follow()

    @torch.no_grad()
    def follow(self) -> None:
        """A step of the moving average."""
        for average, weight in zip(self.target.parameters(), self.student.parameters(), strict=True):
            average.lerp_(weight, 1 - self.decay)

    def inconsistency(self, data: Tensor) -> Tensor:
        """The loss along the trajectory, a mean over records (B, ...) and their components."""
        first, steps, last = self.places(len(data), data)
        t, u, s = (self.grid.to(data)[place] for place in (first, first + steps, last))
        x = self.path.noised(data, t, self.path.noise(data))
        start = torch.full_like(s, self.path.start)
        with torch.no_grad():
            solved = x
            for i in range(steps):
                solved = self.heun(solved, *(self.grid.to(data)[first + i + j] for j in (0, 1)))
            wanted = self.jump(self.target, self.jump(self.target, solved, u, s), s, start)
        return (self.jump(self.target, self.jump(self.student, x, t, s), s, start) - wanted).square().mean()

    def places(self, n: int, like: Tensor) -> tuple[Tensor, int, Tensor]:
        """Where on the grid n records begin (n,), how many steps the teacher makes, and where jumps end (n,)."""
        steps = 1 + int(torch.multinomial(torch.arange(1.0, self.most + 1), 1))
        levels, device = len(self.grid), like.device
        first = torch.randint(levels - steps, (n,), device=device)
        if self.ends == "data":
            return first, steps, torch.full_like(first, levels - 1)
        room = levels - first - steps
        return first, steps, first + steps + (torch.rand(n, device=device) * room).long().clamp(max=room - 1)

    def heun(self, x: Tensor, t: Tensor, u: Tensor) -> Tensor:
        """The teacher's x_t (B, ...) at times t (B,), carried to u (B,): see `modules.generative.samplers.heun`."""
        now, then = (along(self.path.noise_ratio(time), x) for time in (t, u))
        y, scale = x / along(self.path.alpha(t), x), along(self.path.alpha(u), x)
        slope = (y - self.guided(x, t, None)) / now
        guess = y + (then - now) * slope
        return scale * (y + (then - now) / 2 * (slope + (guess - self.guided(scale * guess, u, None)) / then))

    def clean(self, model: Diffusion, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """g (B, ...) of a student at x_t (B, ...), for a jump from t (B,) to s (B,)."""
        path, times = self.path, torch.stack([self.path.conditioning(t), self.path.conditioning(s)], 1)
        value = model.net(path.scaled(x, t, model.data_std), times)
        return data_of(value, x, t, target_of(model.target, path, t, model.data_std), path)

    def jump(self, model: Diffusion, x: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """G (B, ...) of a student at x_t (B, ...), from t (B,) to s (B,)."""
        data = self.clean(model, x, t, s)
        return along(self.path.alpha(s), x) * data + along(self.path.sigma(s), x) * noise_of(data, x, t, self.path)

    def drawn_from(self, data: Tensor) -> Tensor:
        """What one jump makes of records (B, ...) under the most noise, (B, ...)."""
        end, start = (data.new_full((len(data),), time) for time in (self.path.end, self.path.start))
        return self.jump(self.student, self.path.noised(data, end, self.path.noise(data)), end, start)

    def judged(self, x: Tensor) -> Tensor:
        """D (B,) of records (B, ...)."""
        return self.discriminator(x).flatten(1).mean(1)

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), of an evaluation per jump."""
        like, path = next(self.student.parameters()), self.path
        x = path.prior_std * path.noise(like.new_empty(n, *self.spec.shape))
        for t, u in pairwise(self.stops.to(like.device)):
            final = u <= path.start or not self.gamma
            s = u if final else self.before(u)
            x = self.jump(self.student, x, t.to(x).expand(n), s.to(x).expand(n))
            if not final:
                more = (path.noise_ratio(u).square() - path.noise_ratio(s).square()).sqrt()
                x = path.alpha(u) * (x / path.alpha(s) + more * path.noise(x))
        return x

    def before(self, u: Tensor) -> Tensor:
        """Where a jump goes after which noise leads back to u: the noise ratio is that of u times sqrt(1 - gamma^2)."""
        ratio = (1 - self.gamma**2) ** 0.5 * self.path.noise_ratio(u)
        return self.path.time_of_ratio(ratio).clamp(torch.tensor(self.path.start).to(u), u)

    def function_evaluations(self) -> float:
        return float(len(self.stops) - 1)

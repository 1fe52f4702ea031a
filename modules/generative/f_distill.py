"""f-distill: a generator of one step whose law comes near a diffusion model's in an f-divergence of choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.distillation import Distillation, denoising, student_of
from modules.generative.gaussian.model import Node
from modules.generative.gaussian.noisy import noised
from modules.generative.gaussian.paths import along

WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "reverse_kl": torch.ones_like,
    "softened_reverse_kl": lambda r: 1 / (1 + r),
    "jensen_shannon": lambda r: r / (1 + r),
    "squared_hellinger": lambda r: r.sqrt() / 4,
    "forward_kl": lambda r: r,
    "jeffreys": lambda r: 1 + r,
}
"""h(r) = r^2 f''(r) of a divergence D_f(p || q) = E_q f(r) with r = p / q: f(r) is -ln r, (r + 1) ln((r + 1) / 2r),
r ln r - (r + 1) ln((r + 1) / 2), 1 - sqrt(r), r ln r and (r - 1) ln r. Table 1 of the paper."""


class FDistill(Distillation):
    """A generator G(z) of records from noise z, whose noisy law q_t descends D_f(p_t || q_t) from the teacher's p_t:

        gradient of D_f   -E_{z, eps} h(r) (score of p_t - score of q_t) alpha dG(z),   r = p_t(x_t) / q_t(x_t)

    at x_t = alpha G(z) + sigma eps, with h(r) = r^2 f''(r). h is 1 for the reverse KL divergence, which is distribution
    matching (DMD) and variational score distillation; it grows with r where a divergence punishes what q leaves out.
    In turns

        fake            the score of q_t, by denoising of generated records
        discriminator   ln r, by telling noisy records of the data from generated ones
        generator       E w(t) h(r) / mean(h) <D_fake(x_t) - D_teacher(x_t), G(z)> + gan E softplus(-ln r)

    where D = E[x_0 | x_t], of which the scores' difference is alpha / sigma^2 times that of D, and
    w = 1 / mean|G(z) - D_teacher| as in DMD. G(z) = D_generator(x_T = prior z, end), a copy of the teacher at first.

    Xu, Nie and Vahdat 2025, "One-step Diffusion Models with f-Divergence Distribution Matching", Theorem 1, Table 1,
    Algorithm 1 and the authors' code (FastGen), for the last's normalisation of h over the batch and bounds of r.

    Deviations: (1) the discriminator is a network of its own, where the paper's is a head on the teacher's features;
    (2) r is not divided by its running mean at similar times, the first of the paper's two normalisations; (3) one
    step of fake and discriminator for each of the generator; (4) records without classes; (5) new networks where the
    teacher is exact.

    Args:
        spec: images or vectors.
        path: config of the teacher's path.
        divergence: a name in `WEIGHTS`.
        gan: weight of the generator's adversarial term, at least 0. Default 0.003, that of DMD2 on ImageNet.
        bound: r is kept between 1 / bound and bound. Our default; it keeps single records from taking over.
        times: law of t, see `Diffusion`.
        data_std: see `Diffusion`; scales what networks see.
        generator_optimizer: arguments of the optimizer that differ for the generator.
        parts: the arguments of `Distillation`.

    Raises:
        UserError: an unknown divergence, a negative weight, a bound not above 1.
    """

    papers = ("step2025diffusion",)
    turns = ("fake", "discriminator", "generator")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        divergence: str = "jensen_shannon",
        gan: float = 0.003,
        bound: float = 10.0,
        times: str = "uniform",
        data_std: float = 0.5,
        generator_optimizer: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, path=path, **parts)
        if divergence not in WEIGHTS:
            raise UserError(f"model.divergence={divergence} is unknown.", f"there are: {', '.join(WEIGHTS)}")
        if gan < 0 or bound <= 1:
            raise UserError(f"model.gan={gan} model.bound={bound}: a weight of at least 0, and a ratio above 1.")
        self.divergence, self.gan, self.bound, self.times, self.data_std = divergence, gan, bound, times, data_std
        self.generator_optimizer = generator_optimizer or {}
        self.fake = student_of(self.teacher, path, self._net, data_std)
        self.generator = student_of(self.teacher, path, self._net, data_std)
        self.discriminator = self.build(self.spec.shape, self.spec.shape, time=True)

    def changes(self, player: str) -> Mapping[str, Any]:
        return self.generator_optimizer if player == "generator" else {}

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        if player == "generator":
            return self.generate(self.generated(len(batch.x)))
        with torch.no_grad():
            records = self.generated(len(batch.x))
        if player == "fake":
            return {"fake": denoising(self.fake, records, None)}
        real, t = noised(self.path, self.times, batch.x)
        fake, s = noised(self.path, self.times, records)
        lost = F.softplus(-self.log_ratio(real, t)) + F.softplus(self.log_ratio(fake, s))
        return {"discriminator": lost.mean()}

    def generate(self, records: Tensor) -> dict[str, Tensor]:
        """The generator's terms on its records (B, ...)."""
        x, t = noised(self.path, self.times, records)
        log_ratio = self.log_ratio(x, t)
        terms = {"generator": (self.direction(x.detach(), t, records.detach()) * records).flatten(1).sum(1).mean()}
        return terms | {"adversarial": self.gan * F.softplus(-log_ratio).mean()} if self.gan else terms

    @torch.no_grad()
    def direction(self, x: Tensor, t: Tensor, records: Tensor) -> Tensor:
        """What the records (B, ...) that x_t (B, ...) came from go against, (B, ...)."""
        wanted = self.guided(x, t, None)
        h = WEIGHTS[self.divergence](self.log_ratio(x, t).exp().clamp(1 / self.bound, self.bound))
        weight = h / h.mean() / (records - wanted).flatten(1).abs().mean(1).clamp_min(1e-8)
        return along(weight, x) * (self.fake.denoise(x, t) - wanted)

    def log_ratio(self, x: Tensor, t: Tensor) -> Tensor:
        """ln r (B,) at x_t (B, ...)."""
        return self.discriminator(self.path.scaled(x, t, self.data_std), self.path.conditioning(t)).flatten(1).mean(1)

    def generated(self, n: int) -> Tensor:
        """n records (n, ...), with their gradient."""
        like = next(self.generator.parameters())
        z = self.path.prior_std * torch.randn(n, *self.spec.shape, device=like.device, dtype=like.dtype)
        return self.generator.denoise(z, z.new_full((n,), self.path.end))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), in one evaluation each."""
        return self.generated(n)

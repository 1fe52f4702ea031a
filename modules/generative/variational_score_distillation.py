"""Variational score distillation: particles whose law follows that of a diffusion model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.distillation import denoising, student_of
from modules.generative.gaussian.model import Node
from modules.generative.gaussian.targets import noise_of
from modules.generative.score_distillation_sampling import ScoreDistillationSampling


class VariationalScoreDistillation(ScoreDistillationSampling):
    """Particles descend, together, the divergence of their noisy law q_t from the teacher's p_t:

        theta_i <- theta_i - rate E_{t, eps} sigma(t)^2 (eps_teacher(x_t, t, y_i) - eps_fake(x_t, t, y_i)) dg / dtheta

    where eps_fake is trained on the particles by denoising, in turns with their steps. Then the field is that of the
    Wasserstein gradient flow of E_t (sigma / alpha) sigma^2 KL(q_t || p_t), whose minimum is q = p.

    Wang et al. 2023, "ProlificDreamer: High-Fidelity and Diverse Text-to-3D Generation with Variational Score
    Distillation", Algorithm 1 and Theorem 2.

    Deviations: those of `ScoreDistillationSampling`, and (4) eps_fake is a whole copy of the teacher in the place of a
    LoRA of it, trained with the teacher's own target, or a new network where the teacher is exact.

    Args:
        spec: see `ScoreDistillationSampling`.
        path: config of the teacher's path.
        data_std: see `Diffusion`; for an exact teacher alone, as is `net`.
        particles_optimizer: arguments of the optimizer that differ for the particles.
        parts: the arguments of `ScoreDistillationSampling`.
    """

    papers = ("wang2023prolificdreamer",)
    turns = ("particles", "fake")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        path: Node,
        data_std: float = 0.5,
        particles_optimizer: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, path=path, **parts)
        self.particles_optimizer = particles_optimizer or {}
        self.fake = student_of(self.teacher, path, self._net, data_std)

    def changes(self, player: str) -> Mapping[str, Any]:
        return self.particles_optimizer if player == "particles" else {}

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        if player == "particles":
            return super().play(player, batch)
        return {"fake": denoising(self.fake, self.particles[0].detach(), self.label)}

    def own_noise(self, x: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        return noise_of(self.fake.denoise(x, t, self.label), x, t, self.path)

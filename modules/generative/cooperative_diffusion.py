"""Diffusion recovery likelihood with an initialiser that learns from what Langevin steps make of its proposals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.spec import DataSpec
from modules.generative.diffusion_recovery import DiffusionRecovery


class CooperativeDiffusion(DiffusionRecovery):
    """Langevin steps start from an initialiser's proposal y0 = g(x_t, t) + d_t N(0, I), and end in y_K:

        energy        gradient of f(y) - f(y_K), y from the data
        initialiser   E |y_K - y0|^2, y_K held fixed

    d_t^2 = a_t^2 s_t^2 (1 - A_{t-1}) / (1 - A_t) is the variance of a_t x_{t-1} given x_t and x_0, where A_t is the
    variance that x_t keeps of x_0. The steps teach the initialiser, and it saves the next ones most of their way.

    Zhu et al. 2024, "Learning Energy-Based Models by Cooperative Diffusion Recovery Likelihood", Algorithms 1 and 2;
    g(x, t) = x + net(x, t) and the loss with the proposal's noise in it are those of the authors' code. The noise has
    no part in the expected gradient; y_K moves along with it, so that its variance is less.

    Deviations: (1) the noisiest level recovers from x_T like all others, where the authors' energy there is one of y
    alone; (2) no last denoising step, at noise of 0.0075; (3) one learning rate for both networks; further those of
    `DiffusionRecovery`.

    Args:
        spec: images or vectors, about of unit variance.
        steps: K. Default 15, the authors' code: half of those without an initialiser.
        shared_noise: see `DiffusionRecovery`.
        parts: the arguments of `DiffusionRecovery`.
    """

    papers = ("zhu2024learning",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], steps: int = 15, shared_noise: bool = True, **parts: Any
    ) -> None:
        super().__init__(spec, steps=steps, shared_noise=shared_noise, **parts)
        self.initialiser = self.build(self.spec.shape, self.spec.shape, time=True)

    def propose(self, x: Tensor, level: Tensor) -> Tensor:
        a, s = self.scale(level)
        spread = a * s * ((1 - self.kept(level - 1)) / (1 - self.kept(level))).sqrt()
        return x + self.initialiser(x, self.time(level)) + spread * torch.randn_like(x)

    def contrast(self, y: Tensor, x: Tensor, level: Tensor) -> dict[str, Tensor]:
        proposed = self.propose(x, level)
        refined = self.refine(proposed.detach(), x, level)
        return {
            "energy": self.gap(refined, y, level),
            "initialiser": (refined - proposed).flatten(1).square().sum(1).mean(),
        }

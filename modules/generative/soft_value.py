"""The reward that a noisy record leads to, learned: the value function of SVDD-MC."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.noisy import noised
from modules.generative.judged import JudgedDiffusion
from modules.generative.rewards import Reward


class SoftValue(JudgedDiffusion):
    """A trained model beside v(x_t, t) = E[r(x_0) | x_t], learned by least squares on records with noise.

    Li et al. 2024, "Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based
    Decoding", section 5.1 (SVDD-MC): the regression stands in for alpha ln E[exp(r / alpha) | x_t], which it is where
    alpha is large, and which is hard to estimate where it is small.

    Deviation: x_t comes from training records with noise instead of the model's own rollouts. A model that has learned
    its records draws both from one law.

    Args:
        spec: images or vectors.
        reward: config of a `modules.generative.rewards.Reward`.
        model: checkpoint, see `JudgedDiffusion`.
        times: see `JudgedDiffusion`.
        data_std: see `JudgedDiffusion`.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.
    """

    papers = ("li2024derivative",)
    shift: Tensor
    scale: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        reward: Mapping[str, Any],
        model: str | None = None,
        times: str = "uniform",
        data_std: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, model=model, times=times, data_std=data_std, **parts)
        self.reward: Reward = instantiate(reward, where="model.reward")
        self.judge = self.judging(1)
        self.register_buffer("shift", torch.zeros(()))
        self.register_buffer("scale", torch.ones(()))

    def prepare(self, x: Tensor) -> None:
        """Mean and standard deviation of the reward, so that the network works in units of one."""
        rewards = self.reward(x)
        self.shift.copy_(rewards.mean())
        self.scale.copy_(rewards.std(correction=0).clamp_min(1e-6))

    def loss(self, batch: Unlabelled) -> Tensor:
        wanted = (self.reward(batch.x) - self.shift) / self.scale
        return (self.judge(*noised(self.path, self.times, batch.x))[:, 0] - wanted).square().mean()

    def value_at(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...), t (B,) -> v (B,)."""
        return self.shift + self.scale * self.judge(x, t)[:, 0]

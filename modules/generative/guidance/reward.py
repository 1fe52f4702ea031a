"""Guidance by the slope of a reward at the predicted record."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.guidance.base import Conditional, Guidance
from modules.generative.guidance.classifier import tweedie
from modules.generative.rewards import Learned, Reward, named


class RewardGuidance(Guidance):
    """score(x_t) + scale grad r(E[x_0 | x_t]), the slope taken through the network.

    With scale = 1 / alpha it stands for p(x_0) exp(r(x_0) / alpha), whose score it would be if r(E[x_0 | x_t]) / alpha
    were ln E[exp(r(x_0) / alpha) | x_t]. Chung et al. 2023, "Diffusion Posterior Sampling for General Noisy Inverse
    Problems", equation 11, for a log-likelihood r.

    Deviation: the score itself is changed, in whatever sampler; DPS adds the gradient after each step, with a step size
    that it divides by the norm of the residual.

    Args:
        reward: config of a `modules.generative.rewards.Reward` with a slope.
        value: instead of it, a checkpoint of `model=generative/soft_value`, whose value without noise has a slope where
            the reward has none.
        scale: of the slope, 1 / alpha.

    Raises:
        UserError: neither reward nor value, a reward without a slope.
    """

    def __init__(self, reward: Mapping[str, Any] | None = None, value: str | None = None, scale: float = 1.0) -> None:
        self.reward: Reward = named(reward, "guidance.reward") if value is None else Learned(value)
        self.scale = scale

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Rewarded(model, y, self)


class Rewarded(Field):
    """The field of `RewardGuidance`: an evaluation of the model and its gradient, which counts as another."""

    cost = 2

    def __init__(self, model: Conditional, y: Tensor | None, guidance: RewardGuidance) -> None:
        super().__init__(model.path, self.guided)
        self.model, self.y, self.guidance = model, y, guidance

    def guided(self, x: Tensor, t: Tensor) -> Tensor:
        """E[x_0 | x_t] (B, ...), moved along the reward, for t (B,)."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            data = self.model.denoise(x, t, self.y)
            reward = self.guidance.reward(data)
            if not reward.requires_grad:
                raise UserError("guidance.reward has no slope.", "take one that has, or sampler=svdd, which needs none")
            (slope,) = torch.autograd.grad(reward.sum(), x)
        return data.detach() + self.guidance.scale * tweedie(slope, t, self.path)

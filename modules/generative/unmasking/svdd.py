"""SVDD for masked diffusion: of several proposals for each step, one is chosen by what it promises."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.rewards import named
from modules.generative.samplers.svdd import chosen
from modules.generative.unmasking.ancestral import Ancestral


class SVDD(Ancestral):
    """Ancestral steps that each make M proposals, of which z^m is kept with probability prop. to exp(v(z^m) / alpha).

    v(z) = r(x_0) at the text whose masks are filled in with their likeliest tokens (SVDD-PM); where no mask is left it
    is the reward itself.

    Li et al. 2024, "Derivative-Free Guidance in Continuous and Discrete Diffusion Models with Soft Value-Based
    Decoding", Algorithm 1 and section 5.2.

    Deviation: the authors hand their networks the expected one-hot text, which only a reward on probabilities can take.

    Args:
        reward: config of a `modules.generative.rewards.Reward` of texts int64 (B, T).
        proposals: M.
        temperature: alpha; 0 keeps the best proposal, as the authors do.
        steps: see `Ancestral`.
        precision: see `Ancestral`.

    Raises:
        UserError: no reward, no proposal, a negative temperature.
    """

    papers = ("li2024derivative",)

    def __init__(
        self,
        reward: Mapping[str, Any] | None = None,
        proposals: int = 10,
        temperature: float = 0.0,
        steps: int = 128,
        precision: str = "float64",
    ) -> None:
        super().__init__(steps, precision)
        if proposals < 1 or temperature < 0:
            raise UserError(
                f"model.unmasking.proposals={proposals} model.unmasking.temperature={temperature}: at least one, and "
                "not below 0."
            )
        self.reward = named(reward, "model.unmasking.reward")
        self.proposals, self.temperature = proposals, temperature

    def __call__(self, model: Any, z: Tensor) -> Tensor:
        log_p = model.log_probs(z)
        for step in self.plan(model):
            if not (z == model.mask).any():
                break
            many, log_many = (part.repeat_interleave(self.proposals, 0) for part in (z, log_p))
            masked = many == model.mask
            many = torch.where(masked, self.filled(model, many, masked, log_many, step), many)
            log_many = model.log_probs(many)
            guess = torch.where(many == model.mask, log_many.argmax(2), many)
            kept = chosen(self.reward(guess).view(len(z), -1), self.temperature)
            z, log_p = many[kept], log_many[kept]
        return z

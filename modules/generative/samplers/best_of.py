"""Best of N: several draws by DDPM, of which the one with the highest reward is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.rewards import named
from modules.generative.samplers.ddpm import DDPM
from modules.generative.samplers.svdd import chosen


class BestOf(DDPM):
    """Draws N records for each that is asked for, and keeps the best: the baseline of every search for rewards.

    Args:
        reward: config of a `modules.generative.rewards.Reward`.
        candidates: N.
        parts: the arguments of `DDPM`.

    Raises:
        UserError: no reward, no candidate.
    """

    def __init__(self, reward: Mapping[str, Any] | None = None, candidates: int = 20, **parts: Any) -> None:
        super().__init__(**parts)
        if candidates < 1:
            raise UserError(f"sampler.candidates={candidates}: at least one.")
        self.reward = named(reward, "sampler.reward")
        self.candidates = candidates

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        more = field.prior((self.candidates - 1) * len(x), tuple(x.shape[1:]), x)
        start = torch.cat([x[:, None], more.view(len(x), self.candidates - 1, *x.shape[1:])], 1)
        draws = super().sample(field, start.flatten(0, 1), times)
        field.calls *= self.candidates
        return draws[chosen(self.reward(draws).view(len(x), -1), 0.0)]

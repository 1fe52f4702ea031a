"""How much of a reward a sampler's draws have, and how natural they still are."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from callbacks.evaluation.density import law_of_x
from callbacks.evaluation.samples import OfDraws, draws_of
from compendium.config import instantiate


class Rewards(OfDraws):
    """Figures of n draws of a Sampler under a reward of one's choice.

    - `reward`: the mean; `reward_median`; `reward_low` and `reward_high`: the 10% and the 90% quantile.
    - `surprise`: where the law of the data is known, the mean of -ln p(x) of the draws, nats.

    Args:
        reward: config of a `modules.generative.rewards.Reward`; None leaves this evaluation out.
        n: number of draws; those of `Samples`, as far as they go.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, reward: Mapping[str, Any] | None = None, n: int = 1000, **parts: Any) -> None:
        super().__init__(**parts)
        self.reward = None if reward is None else instantiate(reward, where=f"{self.name}.reward")
        self.n = n

    def misfit(self, method, spec):
        return "no reward was named" if self.reward is None else None

    def compute(self, method, data) -> Mapping[str, float]:
        assert self.reward is not None
        draws = draws_of(method, data, self.n)
        rewards = self.reward(draws).double()
        low, median, high = rewards.quantile(rewards.new_tensor([0.1, 0.5, 0.9]))
        found = {"reward": rewards.mean(), "reward_median": median, "reward_low": low, "reward_high": high}
        law = law_of_x(data, self.split)
        if law is not None:
            found["surprise"] = -law.log_prob(draws.to(torch.float64)).mean()
        return {name: float(value) for name, value in found.items()}

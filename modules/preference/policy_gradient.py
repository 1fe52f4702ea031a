"""Policies that learn from what their own answers are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Rollouts
from datamodules.spec import DataSpec
from modules.preference.advantages import Estimator
from modules.preference.on_policy import Clipped


class PolicyGradient(Clipped):
    """Policy gradients of whole answers, which are compared with each other.

        loss = -sum over tokens of w min(ratio A, clip(ratio, 1 - c, 1 + c) A),    ratio = pi / pi_old of a token

    A is the advantage of an answer, by `estimator`. With one pass over each round pi_old = pi, and the gradient is that
    of REINFORCE. The divergence is taken from the reward, r - beta ln pi_old / pi_ref of whole answers, or it stands in
    the loss, as beta (e^d - d - 1) with d = ln pi_ref / pi of each token (Schulman 2020).

    Args:
        spec: text with answers.
        estimator: config of a `modules.preference.advantages.Estimator`, `estimator=`.
        divergence: where it stands, `reward` (RLOO, PPO) or `loss` (GRPO).
        average: w of a token: `answers`, 1 / (number of answers), so that an answer counts as its tokens together; or
            `tokens`, 1 / (number of answers * tokens of the answer), so that each answer counts alike (GRPO).
        parts: see `Clipped`.

    Raises:
        UserError: another word, see `Clipped`.
    """

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        estimator: Mapping[str, Any],
        divergence: str = "reward",
        average: str = "answers",
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, value, known in (
            ("divergence", divergence, ("reward", "loss")), ("average", average, ("answers", "tokens")),
        ):  # fmt: skip
            if value not in known:
                raise UserError(f"model.{name}={value} is unknown.", f"there are: {', '.join(known)}")
        self.estimator: Estimator = instantiate(estimator, where="model.estimator")
        self.divergence, self.average = divergence, average

    def loss(self, batch: Rollouts) -> dict[str, Tensor]:
        log_pi, old, reference, own = self.told(batch)
        advantage = self.advantages(batch, old - reference)
        weight = self.weights(own)
        terms = {"gain": -(weight * self.gain(log_pi - old, advantage)).sum()}
        if self.beta and self.divergence == "loss":
            behind = torch.where(own, reference - log_pi, 0.0)
            terms["divergence"] = self.beta * (weight * (behind.exp() - behind - 1)).sum()
        return terms

    def advantages(self, batch: Rollouts, log_ratio: Tensor) -> Tensor:
        """A batch, and ln pi_old / pi_ref of its tokens (n, T - 1) -> advantages of the answers (n, 1)."""
        reward = batch.reward
        if self.divergence == "reward":
            reward = reward - self.beta * log_ratio.sum(1)
        samples = int((batch.group == 0).sum())
        return self.estimator(reward.view(-1, samples)).view(-1, 1)

    def weights(self, own: Tensor) -> Tensor:
        """Which tokens are the answers', bool (n, T - 1) -> their weights in a mean (n, T - 1)."""
        weight = own.float() / len(own)
        return weight if self.average == "answers" else weight / own.sum(1, keepdim=True).clamp_min(1)

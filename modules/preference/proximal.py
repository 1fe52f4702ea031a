"""Proximal policy optimization of answers, with a critic."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from datamodules.batches import Rollouts
from datamodules.spec import DataSpec
from modules.preference.on_policy import Clipped


class ProximalPolicy(Clipped):
    """PPO (Schulman et al. 2017) for answers as in InstructGPT (Ouyang et al. 2022): each token is a step.

        r_t = -beta ln pi_old / pi_ref of token t, and on the last token what the answer is worth beside it
        delta_t = r_t + V_{t+1} - V_t,    A_t = sum over l of lam^l delta_{t+l}    (Schulman et al. 2016; no discount)
        loss = -mean over tokens of min(ratio A, clip(ratio) A) + value (1/2) mean of (V_t - (A_t + V_t)_old)^2

    The critic V is a network of its own, which begins as the policy, with a linear layer on its features. Advantages
    have mean 0 and variance 1 over the tokens of a batch.

    Deviations: 1. Advantages are those of the critic as it is, also in later passes over a round. 2. The critic's loss
    is not clipped.

    Args:
        spec: text with answers.
        lam: in [0, 1]; 0.95 as in InstructGPT.
        value: weight of the critic's loss, above 0; 0.1 as in trl.
        parts: see `Clipped`.

    Raises:
        UserError: a value out of range; a network without features (`embed`), such as net=bigram.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], lam: float = 0.95, value: float = 0.1, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not 0 <= lam <= 1 or not value > 0:
            raise UserError(f"model.lam={lam} model.value={value}: in [0, 1], and above 0.")
        if not hasattr(self.net, "embed"):
            raise UserError(f"{type(self.net).__name__} gives no features for a critic.", "net=transformer, say")
        self.lam, self.value = lam, value
        self.critic = deepcopy(self.net)
        self.head = nn.Linear(self.net.features, 1)  # type: ignore[arg-type]
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def loss(self, batch: Rollouts) -> dict[str, Tensor]:
        log_pi, old, reference, own = self.told(batch)
        values = torch.where(own, self.head(self.critic.embed(batch.ids[:, :-1])).squeeze(2).float(), 0.0)  # type: ignore[operator]
        with torch.no_grad():
            advantage = advantages(self.rewards(batch.reward, old - reference, own), values, self.lam) * own
            goal = advantage + values
            mean = advantage.sum() / own.sum()
            spread = (((advantage - mean).square() * own).sum() / own.sum()).sqrt()
            advantage = (advantage - mean) / (spread + 1e-8)
        count = own.sum()
        gain = torch.where(own, self.gain(log_pi - old, advantage), 0.0)
        return {
            "gain": -gain.sum() / count,
            "value": self.value * ((values - goal).square() * own).sum() / (2 * count),
        }

    def rewards(self, reward: Tensor, log_ratio: Tensor, own: Tensor) -> Tensor:
        """What answers are worth (n,), ln pi_old / pi_ref of tokens and which are the answers' (n, T - 1) -> r_t."""
        last = own & (own.flip(1).cumsum(1).flip(1) == 1)
        return torch.where(last, reward[:, None], 0.0) - self.beta * log_ratio * own


def advantages(rewards: Tensor, values: Tensor, lam: float) -> Tensor:
    """Rewards and values of steps (n, T), 0 after the last one -> A_t = sum over l of lam^l delta_{t+l} (n, T)."""
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], 1)
    delta = rewards + following - values
    steps = torch.arange(delta.shape[1], device=delta.device)
    ahead = steps[:, None] - steps  # of the later step, in front of the earlier one
    return delta @ torch.where(ahead >= 0, delta.new_tensor(lam) ** ahead.clamp_min(0), 0.0)

"""How much better an answer is than others to its prompt: `estimator=` of policy gradients."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor

from compendium.errors import UserError


class Estimator(ABC):
    """Advantages of K answers to each prompt."""

    @abstractmethod
    def __call__(self, reward: Tensor) -> Tensor:
        """Rewards (B, K) -> advantages (B, K)."""


class Alone(Estimator):
    """A = r - b, with b the mean over all answers of the batch (Williams 1992): no answers are compared."""

    def __call__(self, reward: Tensor) -> Tensor:
        return reward - reward.mean()


class LeaveOneOut(Estimator):
    """A_k = r_k - (mean of the other rewards) (Kool et al. 2019; Ahmadian et al. 2024, "RLOO"): unbiased.

    Raises:
        UserError: one answer to a prompt.
    """

    def __call__(self, reward: Tensor) -> Tensor:
        samples = several(reward)
        return (reward - reward.mean(1, keepdim=True)) * samples / (samples - 1)


class Standardised(Estimator):
    """A_k = (r_k - mean) / (std + 1e-4), over the answers to a prompt (Shao et al. 2024, "GRPO"; std with K - 1).

    Args:
        scale: whether there is a division at all; without it, biased by (K - 1) / K, it is that of Liu et al. 2025
            ("Dr. GRPO").

    Raises:
        UserError: one answer to a prompt.
    """

    def __init__(self, scale: bool = True) -> None:
        self.scale = scale

    def __call__(self, reward: Tensor) -> Tensor:
        several(reward)
        advantage = reward - reward.mean(1, keepdim=True)
        return advantage / (reward.std(1, keepdim=True) + 1e-4) if self.scale else advantage


def several(reward: Tensor) -> int:
    """How many answers there are to each prompt.

    Raises:
        UserError: one.
    """
    if reward.shape[1] < 2:
        raise UserError("the answers to a prompt are compared, and there is one.", "datamodule.samples=4, say")
    return reward.shape[1]

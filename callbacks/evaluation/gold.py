"""What a policy's answers are worth, where that is known of all answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.listed import ListedEvaluation
from callbacks.metrics.precision import precise
from compendium.errors import UserError
from datamodules.source import World
from modules.capabilities import AnswerPolicy, ReferencedPolicy


class Gold(ListedEvaluation):
    """Exact figures of an AnswerPolicy in a world whose answers can be listed; means over prompts.

    - `gold_reward`: sum_a pi(a | x) r(x, a), and `best_reward`: max_a r(x, a).
    - `listed`: sum_a pi(a | x), 1 where the policy says nothing but answers. All laws are taken given that they do.
    - `unseen`: probability of answers that were never recorded.
    - `entropy`: of the answers, nats.

    Of a policy with a reference also

    - `kl`: sum_a pi ln(pi / pi_ref), nats.
    - `win_rate`: probability that an answer of pi is preferred to one of pi_ref: as the world says, or by Bradley and
      Terry's model at temperature 1; ties count half.
    - `value`: gold_reward - beta kl, and `value_gap`: how far it lies below that of pi* ~ pi_ref exp(r / beta), the
      best policy; equal to beta KL(pi | pi*).

    Args:
        beta: of `value`, above 0, in units of the reward.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: a beta that is not above 0.
    """

    capabilities = (AnswerPolicy,)

    def __init__(self, beta: float = 0.1, **parts: Any) -> None:
        super().__init__(**parts)
        if not beta > 0:
            raise UserError(f"{self.name}.beta={beta}: it is above 0.")
        self.beta = beta

    def compute(self, method, data) -> Mapping[str, float]:
        world = data.world
        ids = self.texts(method, data)
        log_pi = precise(method.all_log_probs(*ids)).cpu()
        figures = {"listed": float(log_pi.exp().sum(1).mean())}
        log_pi = log_pi.log_softmax(1)
        pi, reward = log_pi.exp(), world.reward
        gold = float((pi * reward).sum(1).mean())
        figures |= {
            "gold_reward": gold,
            "best_reward": float(reward.max(1).values.mean()),
            "unseen": float((pi * (world.behaviour == 0)).sum(1).mean()),
            "entropy": float(-torch.xlogy(pi, pi).sum(1).mean()),
        }
        if isinstance(method, ReferencedPolicy):
            log_reference = precise(method.all_reference_log_probs(*ids)).cpu().log_softmax(1)
            figures |= self.beside(log_pi, log_reference, world, gold)
        return figures

    def beside(self, log_pi: Tensor, log_reference: Tensor, world: World, gold: float) -> dict[str, float]:
        """The figures beside a reference: laws (P, A)."""
        pi, reference = log_pi.exp(), log_reference.exp()
        kl = float((pi * (log_pi - log_reference)).sum(1).mean())
        # max over policies of E r - beta KL is beta ln sum_a pi_ref exp(r / beta).
        best = float((self.beta * torch.logsumexp(log_reference + world.reward / self.beta, 1)).mean())
        return {
            "kl": kl,
            "win_rate": float(torch.einsum("pa,pab,pb->p", pi, world.wins, reference).mean()),
            "value": gold - self.beta * kl,
            "value_gap": best - (gold - self.beta * kl),
        }

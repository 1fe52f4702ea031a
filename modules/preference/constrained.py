"""Policies that learn from what their answers are worth, as long as judges have nothing against them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import JudgedRollouts
from datamodules.spec import DataSpec
from modules.preference.on_policy import OnPolicy
from modules.preference.policy import token_log_probs


class Constrained(OnPolicy):
    """Constrained generative policy optimization (CGPO) with one of its three optimizers.

    An answer is feasible if no judge finds a rule broken and ln pi / pi_ref of it is at most `kl`; the reward is
    calibrated by the recorded answer y' to the same prompt, R = sigma(r(x, y) - r(x, y')). For the K answers to each
    prompt, with means over prompts:

    - `crpg`, calibrated regularized policy gradient: -(R 1[feasible] - its mean over the K answers) ln pi(y | x),
      which is what the reward gets where a rule is broken: nothing.
    - `codpo`, constrained online DPO: the loss of DPO between the best feasible answer and the worst infeasible one,
      of prompts that have both.
    - `crraft`, calibrated reward-ranked fine-tuning: -R ln pi(y | x) of the best feasible answer.

    There are no multipliers to tune, and rewards are never summed over different tasks: each prompt has its own.

    Xu et al. 2024, "The Perfect Blend: Redefining RLHF with Mixture of Judges". The three optimizers are from notes on
    the paper, whose text was not at hand.

    Deviations: 1. Judges are rules about what the data's judge counts (datamodule=judged_rollouts), where the paper has
    language models, too. 2. One reward for all prompts, where the paper has one for each task.

    Args:
        spec: text with answers.
        optimizer_rule: `crpg`, `codpo` or `crraft`.
        kl: highest ln pi / pi_ref of a feasible answer, nats, above 0.
        beta: of codpo's loss, above 0.
        parts: see `OnPolicy`.

    Raises:
        UserError: another rule, a value out of range.
    """

    batch_type = JudgedRollouts
    papers = ("xu2024perfect",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        optimizer_rule: str = "crpg",
        kl: float = 20.0,
        beta: float = 0.1,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if optimizer_rule not in ("crpg", "codpo", "crraft"):
            raise UserError(f"model.optimizer_rule={optimizer_rule} is unknown.", "there are: crpg, codpo, crraft")
        if not kl > 0 or not beta > 0:
            raise UserError(f"model.kl={kl} model.beta={beta}: both are above 0.")
        self.optimizer_rule, self.kl, self.beta = optimizer_rule, kl, beta

    def loss(self, batch: JudgedRollouts) -> Tensor:
        log_pi = token_log_probs(self.net, batch.ids, batch.answer).sum(1)
        log_ratio = log_pi - self.reference_log_probs(batch.ids, batch.answer)
        samples = int((batch.group == 0).sum())
        feasible = (batch.feasible & (log_ratio.detach() <= self.kl)).view(-1, samples)
        calibrated = torch.sigmoid(batch.reward - batch.baseline).view(-1, samples)
        log_pi, log_ratio = log_pi.view(-1, samples), log_ratio.view(-1, samples)
        if self.optimizer_rule == "crpg":
            worth = calibrated * feasible
            return -((worth - worth.mean(1, keepdim=True)) * log_pi).mean()
        best = calibrated.masked_fill(~feasible, -1.0).argmax(1, keepdim=True)
        if self.optimizer_rule == "crraft":
            gain = (calibrated * log_pi).gather(1, best)[:, 0]
            return -masked_mean(gain, feasible.any(1))
        worst = calibrated.masked_fill(feasible, 2.0).argmin(1, keepdim=True)
        margin = (log_ratio.gather(1, best) - log_ratio.gather(1, worst))[:, 0]
        return masked_mean(-F.logsigmoid(self.beta * margin), feasible.any(1) & ~feasible.all(1))


def masked_mean(values: Tensor, which: Tensor) -> Tensor:
    """The mean of those of (n,) that bool (n,) says, 0 of none."""
    return (values * which).sum() / which.sum().clamp_min(1)

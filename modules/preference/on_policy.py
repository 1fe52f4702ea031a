"""Policies that learn from answers that they write themselves: what their methods share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Rollouts
from datamodules.spec import DataSpec
from modules.preference.policy import token_log_probs
from modules.preference.referenced import Referenced


class OnPolicy(Referenced):
    """A policy that learns from answers that it has just written (datamodule=rollouts).

    Args:
        parts: see `Referenced`.
    """

    batch_type = Rollouts
    targets = ("answer", "preference")

    def total_loss(self, batch: Any) -> Tensor:
        value = super().total_loss(batch)
        self.terms["reward"] = batch.reward.mean()
        self.terms["answer_length"] = batch.answer.sum(1).float().mean()
        return value


class Clipped(OnPolicy):
    """max over pi of E r(x, y) - beta KL(pi | pi_ref), in steps that do not go too far from who wrote the answers.

    Args:
        spec: text with answers.
        beta: at least 0, in units of the reward.
        clip: c, in (0, 1): a token's gain is min(ratio A, clip(ratio, 1 - c, 1 + c) A) with ratio = pi / pi_old and A
            its advantage (Schulman et al. 2017); None: ratio A.
        parts: see `Referenced`.

    Raises:
        UserError: a value out of range, see `Policy`.
    """

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], beta: float = 0.05, clip: float | None = 0.2, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if beta < 0 or (clip is not None and not 0 < clip < 1):
            raise UserError(f"model.beta={beta} model.clip={clip}: at least 0, and in (0, 1).")
        self.beta, self.clip = beta, clip

    def told(self, batch: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Rollouts -> ln pi, ln pi_old and ln pi_ref of each token (n, T - 1), and which are the answers', bool.

        What stands at t is of the token at t + 1. Without a price of divergence ln pi_old stands for ln pi_ref.
        """
        log_pi, old = token_log_probs(self.net, batch.ids, batch.answer), batch.log_probs[:, 1:]
        with torch.no_grad():
            reference = self.reference_token_log_probs(batch.ids, batch.answer) if self.beta else old
        return log_pi, old, reference, batch.answer[:, 1:]

    def gain(self, log_ratio: Tensor, advantage: Tensor) -> Tensor:
        """ln pi / pi_old of tokens (n, T), and advantages (n, 1) or (n, T) -> what each token gains (n, T)."""
        ratio = log_ratio.exp()
        if self.clip is None:
            return ratio * advantage
        return torch.minimum(ratio * advantage, ratio.clamp(1 - self.clip, 1 + self.clip) * advantage)

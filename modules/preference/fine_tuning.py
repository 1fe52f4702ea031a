"""Supervised fine-tuning: a policy imitates answers."""

from __future__ import annotations

from torch import Tensor

from datamodules.batches import Demonstrations
from modules.preference.policy import Policy


class FineTuning(Policy):
    """loss = -(sum over answers of ln pi(y | x)) / (number of their tokens), nats per token.

    Args:
        spec: text with answers.
        model, parts: see `Policy`.
    """

    batch_type = Demonstrations
    targets = ("answer", "preference")

    def loss(self, batch: Demonstrations) -> Tensor:
        return -self.answer_log_probs(batch.ids, batch.answer).sum() / batch.answer.sum()

"""Reward models that learn from probabilities of preferences."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import SoftPreferences
from modules.preference.reward_model import RewardModel


class SoftReward(RewardModel):
    """A reward model, called preference model there, whose labels are probabilities p that the first answer is better:

        loss = -p ln sigma(r(x, y) - r(x, y') - margin) - (1 - p) ln sigma(r(x, y') - r(x, y) - margin)
               + center (r(x, y) + r(x, y'))^2

    Means over pairs. At p = 1 it is `RewardModel`; without a margin it is least where sigma(r - r') = p.

    Kundu et al. 2023, "Specific versus General Principles for Constitutional AI": preference models from AI feedback.
    That their loss is the cross-entropy with the labeller's probabilities is from notes on the paper, whose text was
    not at hand.

    Args:
        spec, center, margin, model, parts: see `RewardModel`.
    """

    batch_type = SoftPreferences
    papers = ("specific2023versus",)

    def loss(self, batch: SoftPreferences) -> dict[str, Tensor]:  # type: ignore[override]
        scores = self.answer_scores(batch.pairs, batch.answers)
        gap, first = scores[:, 0] - scores[:, 1], batch.first.to(scores)
        wins, loses = F.logsigmoid(gap - self.margin), F.logsigmoid(-gap - self.margin)
        terms = {"preference": -(first * wins + (1 - first) * loses).mean()}
        if self.center:
            terms["center"] = self.center * scores.sum(1).square().mean()
        return terms

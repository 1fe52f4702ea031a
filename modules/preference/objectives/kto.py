"""Kahneman-Tversky optimization."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.preference.objectives.base import Objective, Pairs, not_negative, positive


class KTO(Objective):
    """Each answer on its own is good or bad, and is felt beside what the policy is worth on the whole.

        loss = mean over all answers of  good_weight (1 - sigma(beta (h - z)))   of a chosen one,
                                         bad_weight (1 - sigma(beta (z - h)))    of a rejected one,   h = ln pi / pi_ref

    with z = max(0, mean of h over answers to other prompts of the batch), an estimate of KL(pi | pi_ref) that is not
    descended.

    Ethayarajh et al. 2024, "KTO: Model Alignment as Prospect Theoretic Optimization", equations 7 and 8, as in trl.

    Deviations: 1. Both answers of a pair are looked at, one good and one bad; the paper needs no pairs.

    Args:
        beta: above 0; 0.1.
        good_weight, bad_weight: of chosen and of rejected answers, at least 0; 1.

    Raises:
        UserError: a value out of range; a batch of one pair, which has no other prompt.
    """

    needs_mismatched = True

    def __init__(self, beta: float = 0.1, good_weight: float = 1.0, bad_weight: float = 1.0) -> None:
        positive(beta=beta)
        not_negative(good_weight=good_weight, bad_weight=bad_weight)
        self.beta, self.good_weight, self.bad_weight = beta, good_weight, bad_weight

    def __call__(self, pairs: Pairs) -> Tensor:
        if pairs.mismatched is None or len(pairs.chosen) < 2:
            raise UserError("this objective compares with answers to other prompts.", "datamodule.batch_size=8, say")
        level = pairs.mismatched.mean().clamp_min(0)
        good = 1 - torch.sigmoid(self.beta * (pairs.chosen_ratio - level))
        bad = 1 - torch.sigmoid(self.beta * (level - pairs.rejected_ratio))
        return (self.good_weight * good + self.bad_weight * bad).mean() / 2

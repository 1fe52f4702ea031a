"""Likelihood of what should be said, and gradient ascent on what should not."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.preference.objectives.base import Objective, Pairs, not_negative


class SafeAlign(Objective):
    """SAFE-ALIGN: the loss of fine-tuning on the chosen answers, less that of the rejected ones as long as it is small.

        loss = nll(chosen) - weight * mean over rejected answers of min(nll(rejected), bound)

    nll is per token. Where a rejected answer is as unlikely as the bound says it is left alone; without a bound the
    ascent has no end.

    Bhardwaj and Poria 2023, "Red-Teaming Large Language Models using Chain of Utterances for Safety-Alignment": its
    second strategy penalizes harmful answers by gradient ascent. That the ascent is bounded is from notes on the paper;
    in which form is not.

    Args:
        weight: of the ascent, at least 0; 0 is fine-tuning on safe answers alone, the paper's first strategy.
        bound: nats per token, above 0; None: no bound.

    Raises:
        UserError: a value out of range.
    """

    papers = ("bhardwaj2023red",)
    needs_reference = False

    def __init__(self, weight: float = 0.1, bound: float | None = 5.0) -> None:
        not_negative(weight=weight)
        if bound is not None and not bound > 0:
            raise UserError(f"model.objective.bound={bound}: it is above 0, or null.")
        self.weight, self.bound = weight, bound

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        rejected = -pairs.rejected / pairs.rejected_length
        if self.bound is not None:
            rejected = rejected.clamp_max(self.bound)
        return {"likelihood": pairs.nll, "ascent": -self.weight * rejected.mean()}

"""Aligned supervised fine-tuning: absolute likelihoods of good and bad answers."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.preference.objectives.base import Objective, Pairs, not_negative


class ASFT(Objective):
    """The likelihood of the chosen answer, and that each answer on its own is rightly called good or bad.

        loss = nll + weight * mean of -ln sigma(f(chosen)) - ln sigma(-f(rejected)),     f = ln p / (1 - p)

    p is the geometric mean of the probabilities of an answer's tokens, so that the second part is -ln p(chosen) -
    ln(1 - p(rejected)): there is no reference and no Bradley-Terry model, the chosen answer's likelihood is asked for
    itself, and a rejected answer that is unlikely already is left alone: d loss / d ln p(rejected) = p / (1 - p).

    Wang et al. 2024, "ASFT: Aligned Supervised Fine-Tuning through Absolute Likelihood". The formula is from notes on
    the paper, and agrees with the implementation in turbo-alignment, which cites it and takes means of ln p, too.

    Deviations: 1. nll is per token of all chosen answers, as in `ORPO`, not the mean over answers of means.

    Args:
        weight: lambda, at least 0; 1, turbo-alignment's.

    Raises:
        UserError: a negative weight.
    """

    papers = ("wang2024asft",)
    needs_reference = False

    def __init__(self, weight: float = 1.0) -> None:
        not_negative(weight=weight)
        self.weight = weight

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        chosen, rejected = pairs.chosen / pairs.chosen_length, pairs.rejected / pairs.rejected_length
        # As `log_odds`, finite where p is 1 but for rounding.
        not_rejected = torch.log(-torch.expm1(rejected.clamp(max=-1e-7)))
        return {
            "likelihood": pairs.nll,
            "good": -self.weight * chosen.mean(),
            "bad": -self.weight * not_rejected.mean(),
        }

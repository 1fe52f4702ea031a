"""Regularised preference optimization: the SFT loss as an adversarial regulariser."""

from __future__ import annotations

from torch import Tensor

from modules.preference.objectives.base import Pairs, not_negative
from modules.preference.objectives.referenced import DPO


class RPO(DPO):
    """DPO's loss and the likelihood of the chosen answers.

        loss = DPO's(beta) + eta * beta * mean of -ln pi(chosen | x)

    This is the best policy against the worst of all rewards that explain the preferences nearly as well as the best one
    does: a reward that has to be paid for answers that were never seen is given up, where DPO only compares the two
    answers of a pair, and lets the probability of both go to others.

    Liu et al. 2024, "Provably Mitigating Overoptimization in RLHF: Your SFT Loss is Implicitly an Adversarial
    Regularizer", with the chosen answers as the baseline, and ln pi of whole answers: the first of two forms of the
    authors' code ("cumulative"; the other one is per token), as its README says. The formula is from the abstract and
    notes on the paper.

    Args:
        eta: weight of the likelihood over beta, at least 0.
        beta, label_smoothing: as in `DPO`.

    Raises:
        UserError: a value out of range.
    """

    papers = ("liu2024provably",)

    def __init__(self, eta: float = 0.05, beta: float = 0.1, label_smoothing: float = 0.0) -> None:
        super().__init__(beta, label_smoothing)
        not_negative(eta=eta)
        self.eta = eta

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:  # type: ignore[override]
        return {"preference": super().__call__(pairs), "likelihood": -self.eta * self.beta * pairs.chosen.mean()}

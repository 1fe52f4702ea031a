"""Conformal sets that abstain: one threshold for what is in a set, another for whether to answer at all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.capabilities import Classifier
from modules.uncertainty.conformal import check_alpha, conformal_quantile, of_class
from modules.uncertainty.trained import Trained

SCORES = ("confidence", "entropy", "margin", "set_margin")


class DualThreshold(Trained):
    """Sets {y : 1 - p_y(x) <= Q}, and no answer where an uncertainty u(x) is above a threshold from a ROC curve.

    On held-out records, Q is the conformal quantile, so that sets miss a share alpha at most; and the threshold t of u
    is where the share of wrong answers above it exceeds that of right ones by most, the likeliest class being the
    answer:

        t = argmax_t J(t),      J(t) = P(u > t | wrong) - P(u > t | right)      (Youden 1950)

    Where no answer is wrong, nothing is abstained from; there is no t that tells more.

    Uncertainties, with p_1 >= p_2 the two likeliest classes:

    - `confidence`: 1 - p_1, the max-softmax baseline (Hendrycks and Gimpel 2017).
    - `entropy`: of p, nats.
    - `margin`: 1 - (p_1 - p_2).
    - `set_margin`: entropy plus the distance of both from what conformal prediction says of one answer,
      |p_1 - (1 - Q)|_- + |p_2 - (1 - Q)|_+: how much the likeliest class lacks to be in the set and by how much
      the next one is in it. Both are 0 for sets of just the likeliest class.

    Kumar et al. 2025: two thresholds, the second by J. Their text was not read; their code was (a public repository of
    the paper's title). Deviations: 1. That code abstains by -ln of the probability of the *true* class, which nobody
    has who has yet to answer, and an area under the ROC curve near 1 follows; here u is a function of x. Its figure is
    reported by `callbacks.evaluation.abstention` as `label_auroc`. 2. It chooses t anew on the test records of each
    severity; here once, on held-out records. 3. A record is to be abstained from where the answer is wrong; in that
    code, where the set misses the class. 4. `set_margin` is ours. 5. Scores of sets are 1 - p_y, as in the room's notes
    on the paper; that code has randomised raps.

    Args:
        spec: records held out of the classifier's training: `datamodule=held_out`.
        alpha: share of records that sets may miss, in (0, 1); a tenth, as in the paper.
        score: one of `SCORES`; `margin` told errors best of the last three on digits under shifts, see the claim.
        abstain: False answers everything: conformal sets alone.
        parts: `model` and `net`, see `Trained`.

    Raises:
        UserError: an unknown score, an alpha out of range; see `Trained`.
    """

    targets = ("class",)
    capability = Classifier
    papers = ("kumar2025confidence",)

    quantile: Tensor
    threshold: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        alpha: float = 0.1,
        score: str = "margin",
        abstain: bool = True,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        check_alpha(alpha)
        if score not in SCORES:
            raise UserError(f"model.score={score} is unknown.", f"there are: {', '.join(SCORES)}")
        self.alpha, self.score, self.abstain = alpha, score, abstain
        self.register_buffer("quantile", torch.full((), torch.inf, dtype=torch.float64))
        self.register_buffer("threshold", torch.full((), torch.inf, dtype=torch.float64))

    def solve(self) -> None:
        log_proba, y = self.noted()
        self.quantile.copy_(conformal_quantile(1 - of_class(log_proba.exp(), y), self.alpha))
        if self.abstain:
            self.threshold.copy_(youden(self.scored(log_proba), log_proba.argmax(1) != y))

    def scored(self, log_proba: Tensor) -> Tensor:
        """Log probabilities (B, classes) -> uncertainties (B,)."""
        proba = log_proba.exp()
        first, second = proba.topk(2, dim=1).values.T
        if self.score == "confidence":
            return 1 - first
        if self.score == "margin":
            return 1 - (first - second)
        entropy = -torch.xlogy(proba, proba).sum(1)
        if self.score == "entropy":
            return entropy
        least = 1 - self.quantile
        return entropy + (least - first).clamp(min=0, max=1) + (second - least).clamp(min=0, max=1)

    def predict_log_proba(self, x: Tensor) -> Tensor:
        """x (B, ...) -> the classifier's log probabilities (B, classes), float64."""
        return self.predict(x)

    def predict_set(self, x: Tensor) -> Tensor:
        """x (B, ...) -> which classes are in the set, bool (B, classes), whether or not it abstains."""
        return 1 - self.predict(x).exp() <= self.quantile

    def uncertainty(self, x: Tensor) -> Tensor:
        """x (B, ...) -> u (B,)."""
        return self.scored(self.predict(x))

    def abstains(self, x: Tensor) -> Tensor:
        """x (B, ...) -> whether there is no answer, bool (B,)."""
        return self.uncertainty(x) > self.threshold


def youden(score: Tensor, positive: Tensor) -> Tensor:
    """The threshold t at which P(score > t | positive) - P(score > t | negative) is greatest, midway to the next score.

    Args:
        score: (n,), float64, high for positives.
        positive: bool (n,).

    Returns:
        A scalar; infinite where there are no positives, or where no t has a difference above 0. Where there are no
        negatives, minus infinite.
    """
    if not bool(positive.any()):
        return score.new_tensor(torch.inf)
    if bool(positive.all()):
        return score.new_tensor(-torch.inf)
    levels, place = score.unique(return_inverse=True)
    at = torch.stack([torch.bincount(place[which], minlength=len(levels)) for which in (positive, ~positive)]).double()
    above = 1 - at.cumsum(1) / at.sum(1, keepdim=True)  # of each level
    gain = above[0] - above[1]
    best = int(gain.argmax())
    if gain[best] <= 0:  # what abstaining always and never comes to
        return score.new_tensor(torch.inf)
    return (levels[best] + levels[min(best + 1, len(levels) - 1)]) / 2

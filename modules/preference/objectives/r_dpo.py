"""DPO that does not pay for length."""

from __future__ import annotations

from torch import Tensor

from modules.preference.objectives.base import Pairs, not_negative
from modules.preference.objectives.referenced import DPO


class RDPO(DPO):
    """Length-regularised direct preference optimization.

        loss = mean of -ln sigma(beta m + alpha (|chosen| - |rejected|)),     m as in `DPO`, | | the number of tokens

    the likelihood of preferences by a reward r whose best policy under the reward r - alpha |y| and a KL divergence is
    pi ~ pi_ref exp((r - alpha |y|) / beta). A chosen answer that is longer than the rejected one is explained by its
    length in part, and teaches less.

    Park et al. 2024, "Disentangling Length from Quality in Direct Preference Optimization". The sign is derived above
    and tested; a summary of the paper that was at hand has the same one.

    Args:
        alpha: what a token costs, at least 0, in units of the reward; 0.01.
        beta, label_smoothing: as in `DPO`.

    Raises:
        UserError: a value out of range.
    """

    papers = ("park2024disentangling",)

    def __init__(self, alpha: float = 0.01, beta: float = 0.1, label_smoothing: float = 0.0) -> None:
        super().__init__(beta, label_smoothing)
        not_negative(alpha=alpha)
        self.alpha = alpha

    def __call__(self, pairs: Pairs) -> Tensor:
        return self.classified(self.beta * pairs.margin + self.alpha * (pairs.chosen_length - pairs.rejected_length))

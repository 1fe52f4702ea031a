"""Exploratory preference optimization."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs, not_negative
from modules.preference.objectives.referenced import DPO


class XPO(DPO):
    """DPO while answers are being written, with a bonus for what the reference does not say.

        loss = (the loss of DPO) + alpha mean over pairs of ln pi(y'),     y' the answer that the reference wrote

    One answer of each pair is the policy's own, the other one the reference's (datamodule=online_preferences
    datamodule.second=reference datamodule.keep=null: the mean is over all pairs so far, Algorithm 1). ln pi is an
    implicit value function: where it is low on what the reference says, it is high elsewhere, and the policy tries what
    nobody has compared yet.

    Xie et al. 2024, "Exploratory Preference Optimization"; the algorithm is from the paper's statement of it, sums are
    means here, so that alpha is the paper's at any number of pairs.

    Args:
        alpha: weight of the bonus, at least 0, in units of the reward; 0 is online DPO. 1e-5, of the order of the
            paper's experiments with language models, from memory.
        beta, label_smoothing: as in `DPO`.

    Raises:
        UserError: a value out of range; pairs of which nobody knows who wrote them.
    """

    papers = ("xie2024exploratory",)

    def __init__(self, alpha: float = 1e-5, beta: float = 0.1, label_smoothing: float = 0.0) -> None:
        super().__init__(beta, label_smoothing)
        not_negative(alpha=alpha)
        self.alpha = alpha

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:  # type: ignore[override]
        if pairs.chosen_by_reference is None or pairs.rejected_by_reference is None:
            raise UserError(
                "this objective looks at answers that the reference has just written.",
                "datamodule=online_preferences datamodule.second=reference",
            )
        said = pairs.chosen_by_reference * pairs.chosen + pairs.rejected_by_reference * pairs.rejected
        return {"preference": super().__call__(pairs), "exploration": self.alpha * said.mean()}

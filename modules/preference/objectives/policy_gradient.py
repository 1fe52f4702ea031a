"""Objectives that climb a score which is given, from answers that another policy wrote."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError, did_you_mean
from modules.preference.objectives.base import Objective, Pairs, positive

BASELINES = ("none", "mean")


def regularised(pairs: Pairs, beta: float) -> tuple[Tensor, Tensor]:
    """R = score - beta ln pi / pi_ref of the chosen and the rejected answers (B,) each."""
    chosen, rejected = pairs.scores
    return chosen - beta * pairs.chosen_ratio, rejected - beta * pairs.rejected_ratio


class CoPG(Objective):
    """Contrastive policy gradient: each answer of a pair is the baseline of the other.

        loss = mean of (R(y) - R(y'))^2 / (2 beta),      R(y) = r(x, y) - beta ln pi(y | x) / pi_ref(y | x)

    whose gradient is -(R(y) - R(y')) (grad ln pi(y) - grad ln pi(y')): that of REINFORCE with leave-one-out for two
    answers, if they are pi's own. Its minimum is 0, at pi* ~ pi_ref exp(r / beta), whoever wrote the answers, as long
    as all that pi_ref says can occur: no importance weights. Scores that are 1/2 apart give beta / 2 times IPO's loss.

    Flet-Berliac et al. 2024, "Contrastive Policy Gradient: Aligning LLMs on sequence-level scores in a
    supervised-friendly fashion". The loss is from the abstract and notes on the paper; what is said of its gradient,
    optimum and of IPO is tested.

    Args:
        beta: weight of the divergence, in units of the score, above 0; 0.1 as in `DPO`.

    Raises:
        UserError: a beta that is not above 0; answers that nobody has scored.
    """

    papers = ("fletberliac2024contrastive",)

    def __init__(self, beta: float = 0.1) -> None:
        positive(beta=beta)
        self.beta = beta

    def __call__(self, pairs: Pairs) -> Tensor:
        one, other = regularised(pairs, self.beta)
        return (one - other).square().mean() / (2 * self.beta)


class PolicyGradient(Objective):
    """REINFORCE on recorded answers as if they were the policy's own, which they are not: CoPG's baseline.

        loss = -mean over answers of (R(y) - b) ln pi(y | x),      R as in `CoPG`, without gradients

    Args:
        beta: as in `CoPG`.
        baseline: b, `none`: 0, or `mean`: that of R over the batch.

    Raises:
        UserError: a beta that is not above 0, an unknown baseline; answers that nobody has scored.
    """

    def __init__(self, beta: float = 0.1, baseline: str = "mean") -> None:
        positive(beta=beta)
        if baseline not in BASELINES:
            raise UserError(f"model.objective.baseline={baseline} is unknown.", did_you_mean(baseline, list(BASELINES)))
        self.beta, self.baseline = beta, baseline

    def __call__(self, pairs: Pairs) -> Tensor:
        one, other = (value.detach() for value in regularised(pairs, self.beta))
        level = (one + other).mean() / 2 if self.baseline == "mean" else 0.0
        return -((one - level) * pairs.chosen + (other - level) * pairs.rejected).mean() / 2

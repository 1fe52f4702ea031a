"""Objectives that compare the policy with its reference: DPO, IPO and BCO."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from modules.preference.objectives.base import Objective, Pairs, positive


class DPO(Objective):
    """Direct preference optimization (Rafailov et al. 2023, equation 7).

        loss = mean of -(1 - s) ln sigma(beta m) - s ln sigma(-beta m),    m = ln pi / pi_ref, chosen minus rejected

    Bradley-Terry's likelihood of the reward beta ln pi / pi_ref, whose optimum under a KL divergence is pi. s is the
    share of preferences that are taken to be wrong (Mitchell 2023, "conservative DPO").

    Args:
        beta: weight of the divergence, in units of the reward, above 0; 0.1, the usual one.
        label_smoothing: s, in [0, 1/2).

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, beta: float = 0.1, label_smoothing: float = 0.0) -> None:
        positive(beta=beta)
        if not 0 <= label_smoothing < 0.5:
            raise UserError(f"model.objective.label_smoothing={label_smoothing}: it lies in [0, 1/2).")
        self.beta, self.label_smoothing = beta, label_smoothing

    def __call__(self, pairs: Pairs) -> Tensor:
        return self.classified(self.beta * pairs.margin)

    def classified(self, reward: Tensor) -> Tensor:
        """What the chosen answer is worth more than the rejected one (B,) -> the loss ()."""
        wrong = self.label_smoothing
        return -((1 - wrong) * F.logsigmoid(reward) + wrong * F.logsigmoid(-reward)).mean()


class IPO(Objective):
    """Identity preference optimization (Azar et al. 2024, equation 17).

        loss = mean of (m - 1 / (2 beta))^2,    m = ln pi / pi_ref per token, chosen minus rejected

    Pairs are drawn to a margin that is finite, where DPO's has no end when a pair is always decided alike.

    Deviations: 1. ln pi / pi_ref is divided by the number of tokens of its answer, as in trl, whose authors have it
    from the paper's.

    Args:
        beta: tau of the paper, above 0; 0.1 as there.

    Raises:
        UserError: a beta that is not above 0.
    """

    def __init__(self, beta: float = 0.1) -> None:
        positive(beta=beta)
        self.beta = beta

    def __call__(self, pairs: Pairs) -> Tensor:
        margin = pairs.chosen_ratio / pairs.chosen_length - pairs.rejected_ratio / pairs.rejected_length
        return (margin - 1 / (2 * self.beta)).square().mean()


class BCO(Objective):
    """Binary classifier optimization (Jung et al. 2024): each answer on its own is good or bad.

        loss = mean of -ln sigma(r_chosen - d) - ln sigma(-(r_rejected - d)),     r = beta ln pi / pi_ref

    with d the mean of r over all answers of the batch, without gradients.

    Deviations: 1. d is that of a batch, where the paper has a moving average. 2. No reweighting for prompts of
    different laws: pairs share theirs.

    Args:
        beta: above 0; 0.1.
        shift: whether there is a d; 0 otherwise.

    Raises:
        UserError: a beta that is not above 0.
    """

    def __init__(self, beta: float = 0.1, shift: bool = True) -> None:
        positive(beta=beta)
        self.beta, self.shift = beta, shift

    def __call__(self, pairs: Pairs) -> Tensor:
        good, bad = self.beta * pairs.chosen_ratio, self.beta * pairs.rejected_ratio
        level = (good + bad).detach().mean() / 2 if self.shift else 0.0
        return -(F.logsigmoid(good - level) + F.logsigmoid(level - bad)).mean()

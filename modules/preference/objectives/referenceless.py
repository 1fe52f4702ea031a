"""Objectives that need no reference: CPO, SimPO and ORPO."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from modules.preference.objectives.base import Objective, Pairs, not_negative, positive


class CPO(Objective):
    """Contrastive preference optimization (Xu et al. 2024, equation 6): DPO with an even reference, and likelihood.

        loss = mean of -ln sigma(beta (ln pi(chosen) - ln pi(rejected))) + weight * nll

    nll is -ln pi of the chosen answers per token.

    Args:
        beta: above 0; 0.1 as there.
        weight: of the likelihood, at least 0; 1 as there.

    Raises:
        UserError: a value out of range.
    """

    needs_reference = False

    def __init__(self, beta: float = 0.1, weight: float = 1.0) -> None:
        positive(beta=beta)
        not_negative(weight=weight)
        self.beta, self.weight = beta, weight

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        preference = -F.logsigmoid(self.beta * (pairs.chosen - pairs.rejected)).mean()
        return {"preference": preference, "likelihood": self.weight * pairs.nll}


class SimPO(Objective):
    """Simple preference optimization (Meng et al. 2024, equation 6): the reward is ln pi per token.

        loss = mean of -ln sigma(beta (ln pi(chosen) / |chosen| - ln pi(rejected) / |rejected|) - gamma)

    Args:
        beta: above 0; 2, the least of the paper's.
        gamma: margin that is asked for, at least 0; 1.

    Raises:
        UserError: a value out of range.
    """

    needs_reference = False

    def __init__(self, beta: float = 2.0, gamma: float = 1.0) -> None:
        positive(beta=beta)
        not_negative(gamma=gamma)
        self.beta, self.gamma = beta, gamma

    def __call__(self, pairs: Pairs) -> Tensor:
        margin = pairs.chosen / pairs.chosen_length - pairs.rejected / pairs.rejected_length
        return -F.logsigmoid(self.beta * margin - self.gamma).mean()


class ORPO(Objective):
    """Odds ratio preference optimization (Hong et al. 2024, equations 6 and 7).

        loss = nll - weight * mean of ln sigma(ln odds(chosen) - ln odds(rejected)),     odds = p / (1 - p)

    p is the geometric mean of the probabilities of an answer's tokens.

    Args:
        weight: lambda of the paper, at least 0; 0.1 as there.

    Raises:
        UserError: a negative weight.
    """

    needs_reference = False

    def __init__(self, weight: float = 0.1) -> None:
        not_negative(weight=weight)
        self.weight = weight

    def __call__(self, pairs: Pairs) -> dict[str, Tensor]:
        chosen, rejected = pairs.chosen / pairs.chosen_length, pairs.rejected / pairs.rejected_length
        ratio = log_odds(chosen) - log_odds(rejected)
        return {"likelihood": pairs.nll, "odds": -self.weight * F.logsigmoid(ratio).mean()}


def log_odds(log_p: Tensor) -> Tensor:
    """ln p (...) -> ln p - ln(1 - p), finite for p that is 1 but for rounding."""
    log_p = log_p.clamp(max=-1e-7)
    return log_p - torch.log(-torch.expm1(log_p))

"""Objectives of likelihood alone: what preferences and scores choose is imitated, and nothing is pushed down."""

from __future__ import annotations

import torch
from torch import Tensor

from modules.preference.objectives.base import Objective, Pairs, positive


class Likelihood(Objective):
    """loss = -(sum of ln pi of the chosen answers) / (number of their tokens): fine-tuning on what was preferred."""

    needs_reference = False

    def __call__(self, pairs: Pairs) -> Tensor:
        return pairs.nll


class BestOf(Objective):
    """loss = -mean of ln pi of the answer with the higher score of each pair: offline best-of-n, with n = 2.

    Raises:
        UserError: nobody has scored the answers.
    """

    needs_reference = False

    def __call__(self, pairs: Pairs) -> Tensor:
        chosen, rejected = pairs.scores
        return -torch.where(chosen >= rejected, pairs.chosen, pairs.rejected).mean()


class RewardWeighted(Objective):
    """loss = -mean over answers of w ln pi,   w = exp(r / beta) / (its mean over the batch) (Peters and Schaal 2007).

    Its optimum on answers from mu is mu exp(r / beta), by a forward divergence: the policy covers what is weighted.

    Args:
        beta: temperature of the weights, above 0, in units of the reward.

    Raises:
        UserError: a beta that is not above 0; nobody has scored the answers.
    """

    needs_reference = False

    def __init__(self, beta: float = 1.0) -> None:
        positive(beta=beta)
        self.beta = beta

    def __call__(self, pairs: Pairs) -> Tensor:
        log_pi = torch.cat([pairs.chosen, pairs.rejected])
        weight = (torch.cat(pairs.scores) / self.beta).softmax(0) * len(log_pi)
        return -(weight * log_pi).mean()

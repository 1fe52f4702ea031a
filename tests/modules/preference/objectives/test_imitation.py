"""Objectives of likelihood alone: their optima in closed form."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.preference.objectives.base import Pairs
from modules.preference.objectives.imitation import BestOf, Likelihood, RewardWeighted


def all_pairs(logits, reward):
    """Every pair of three answers once, chosen and rejected as they come."""
    log_pi = logits.log_softmax(0)
    one, other = torch.cartesian_prod(torch.arange(3), torch.arange(3)).unbind(1)
    lengths = torch.full((9,), 2.0, dtype=torch.float64)
    none = torch.zeros(9, dtype=torch.float64)
    return Pairs(log_pi[one], log_pi[other], none, none, lengths, lengths, reward[one], reward[other])


REWARD = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)


@pytest.mark.parametrize(
    ("objective", "optimum"),
    [
        (RewardWeighted(0.7), (REWARD / 0.7).softmax(0)),  # mu exp(r / beta), with mu even
        (BestOf(), torch.tensor([3, 1, 5], dtype=torch.float64) / 9),  # of 9 pairs as many have it as their best
        (Likelihood(), torch.full((3,), 1 / 3, dtype=torch.float64)),  # as often chosen
    ],
    ids=["reward weighted", "best of", "likelihood"],
)
def test_its_gradient_vanishes_at_its_optimum_and_not_elsewhere(objective, optimum):
    for logits, small in ((optimum.log(), True), (torch.tensor([0.5, 0.1, 0.2]).double(), False)):
        logits = logits.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(objective(all_pairs(logits, REWARD)), logits)
        assert (gradient.abs().max() < 1e-12) == small


def test_scores_and_temperatures_are_needed():
    pairs = all_pairs(torch.zeros(3).double(), REWARD)._replace(chosen_score=None)
    with pytest.raises(UserError, match="datamodule=scored_pairs"):
        BestOf()(pairs)
    with pytest.raises(UserError, match="beta"):
        RewardWeighted(0)

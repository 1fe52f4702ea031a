"""Exact figures of a policy in a world that can be listed."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.gold import Gold
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Tilted(Fake):
    """pi ~ pi_ref exp(r / beta), with an even reference."""

    def __init__(self, reward, beta):
        super().__init__()
        self.law = (reward / beta).log_softmax(1)

    def all_log_probs(self, prompts, answers):
        return self.law

    def all_reference_log_probs(self, prompts, answers):
        return torch.zeros_like(self.law).log_softmax(1)


def test_the_best_policy_has_no_gap_and_another_one_beta_times_its_divergence(tmp_path):
    data = PreferenceData(Bandit(prompts=3, answers=5))
    reward = data.world.reward
    best = evaluate(Tilted(reward, 0.5), data, Gold(beta=0.5), folder=tmp_path)
    assert best["value_gap"] == pytest.approx(0, abs=1e-6)
    assert best["listed"] == pytest.approx(1)
    other = Tilted(reward, 2.0)
    got = evaluate(other, data, Gold(beta=0.5), folder=tmp_path)
    pi, star = other.law.exp(), Tilted(reward, 0.5).law
    assert got["value_gap"] == pytest.approx(float(0.5 * (pi * (other.law - star)).sum(1).mean()), abs=1e-6)
    assert got["gold_reward"] == pytest.approx(float((pi * reward).sum(1).mean()), abs=1e-6)
    assert got["gold_reward"] < best["gold_reward"] < got["best_reward"]
    wins = sum(
        float(pi[p, a] / 5 * torch.sigmoid(reward[p, a] - reward[p, b])) / 3
        for p in range(3) for a in range(5) for b in range(5)
    )  # fmt: skip
    assert got["win_rate"] == pytest.approx(wins, abs=1e-6)


def test_the_reference_itself_is_nowhere_and_wins_half(tmp_path):
    data = PreferenceData(Bandit(unseen=0.5))
    got = evaluate(Tilted(torch.zeros(8, 16, dtype=torch.float64), 1.0), data, Gold(), folder=tmp_path)
    assert got["kl"] == pytest.approx(0, abs=1e-7)
    assert got["win_rate"] == pytest.approx(0.5, abs=1e-6)
    assert got["unseen"] == pytest.approx(0.5, abs=1e-6)


def test_it_needs_a_world_and_a_positive_beta():
    assert Gold().why_not_on(Tilted(torch.zeros(1, 1), 1.0), LabelledData(Digits())) == (
        "nobody knows what all answers are worth"
    )
    with pytest.raises(UserError, match=r"gold\.beta=0"):
        Gold(beta=0)

"""Rewards of draws whose law is known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.rewards import Rewards
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate

BRIGHT = {"_target_": "modules.generative.rewards.Brightness"}


class Normal(Fake):
    def sample(self, n):
        return torch.randn(n, 2)


def test_figures_of_a_standard_normal(tmp_path):
    """The mean of two numbers is N(0, 1/2), and -ln p has the entropy ln(2 pi e) as its mean."""
    data = UnlabelledData(GaussianVectors(), scale="none")
    data.setup()
    found = evaluate(Normal(), data, Rewards(BRIGHT, n=5000), folder=tmp_path)
    assert found["reward"] == pytest.approx(0, abs=0.04)
    assert found["reward_median"] == pytest.approx(0, abs=0.04)
    assert found["reward_high"] == pytest.approx(1.2816 / math.sqrt(2), abs=0.05)
    assert found["reward_low"] == pytest.approx(-1.2816 / math.sqrt(2), abs=0.05)
    assert found["surprise"] == pytest.approx(math.log(2 * math.pi * math.e), abs=0.06)


def test_without_a_reward_it_stays_away(tmp_path):
    data = UnlabelledData(GaussianVectors())
    data.setup()
    rewards = Rewards()
    assert evaluate(Normal(), data, rewards, folder=tmp_path) == {}
    assert "no reward" in rewards.reason

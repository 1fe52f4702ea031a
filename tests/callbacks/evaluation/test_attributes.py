"""Figures of several attributes, by loops."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.attributes import Attributes
from compendium.errors import UserError
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Law(Fake):
    """An even reference, and a policy that prefers later answers."""

    def all_log_probs(self, prompts, answers):
        return torch.arange(4.0).expand(2, 4).log_softmax(1)

    def all_reference_log_probs(self, prompts, answers):
        return torch.zeros(2, 4)


def test_figures_are_those_of_loops(tmp_path):
    data = PreferenceData(Bandit(prompts=2, answers=4, attributes=3))
    got = evaluate(Law(), data, Attributes(quantile=0.5), folder=tmp_path)
    pi, rewards = torch.arange(4.0).double().softmax(0), data.world.attributes
    wins = good = worst = gap = 0.0
    for p in range(2):
        for a in range(4):
            part = float(pi[a]) / 2
            for b in range(4):
                both = 1.0
                for k in range(3):
                    both *= float(torch.sigmoid(rewards[k, p, a] - rewards[k, p, b]))
                wins += part * both / 4
            # Half of four even answers lies up to the second lowest.
            good += part * all(rewards[k, p, a] >= rewards[k, p].sort().values[1] for k in range(3))
            worst += part * float(rewards[:, p, a].min())
            gap += part * float(rewards[:, p, a].max() - rewards[:, p, a].min())
    assert got["all_win_rate"] == pytest.approx(wins, abs=1e-6)
    assert got["all_good"] == pytest.approx(good, abs=1e-6)
    assert got["worst"] == pytest.approx(worst, abs=1e-6)
    assert got["attribute_gap"] == pytest.approx(gap, abs=1e-6)


def test_it_needs_several_attributes():
    assert Attributes().why_not_on(Law(), PreferenceData(Bandit())) == "answers are worth one thing alone"
    with pytest.raises(UserError, match="between 0 and 1"):
        Attributes(quantile=1.0)

"""Figures of choices, by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.choices import ChoiceFigures
from datamodules.presentations.rankings import RankingData
from datamodules.sources.linear_rankings import LinearRankings
from tests.callbacks.evaluation.fakes import Fake, evaluate


class FirstOrBest(Fake):
    """The best answer in even problems and the first one in odd ones; weights that are one off in one place."""

    def choose(self, items, problem):
        best = (items.double() @ torch.tensor([-1, 0.1, 0.9], dtype=torch.float64)).argmax(1)
        return torch.where(problem % 2 == 0, best, 0)

    def reward_weights(self, problem):
        return torch.tensor([-1, 0.1, 1.9], dtype=torch.float64).expand(len(problem), 3)


def test_figures_are_means_over_problems(tmp_path):
    data = RankingData(LinearRankings("uncovered", rankings=3, validation=4, test=6), eval_batch_size=4)
    got = evaluate(FirstOrBest(), data, ChoiceFigures(), folder=tmp_path)
    assert got["suboptimality"] == pytest.approx(0.5, abs=1e-6)
    assert got["optimal"] == pytest.approx(0.5)
    assert got["weight_error"] == pytest.approx(1)

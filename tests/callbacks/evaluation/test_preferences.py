"""Figures of pairs from a table of log probabilities."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.preferences import PairFigures
from datamodules.presentations.preferences import PreferenceData
from datamodules.sources.bandit import Bandit
from modules.preference.objectives.base import Pairs
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Table(Fake):
    """ln pi of an answer is minus its number, that of the reference is -3; answer 5 ties with answer 5 alone."""

    def preference_pairs(self, batch):
        log_pi = -batch.pairs[:, :, -1].double()
        three = torch.full_like(log_pi[:, 0], -3.0)
        return Pairs(*log_pi.unbind(1), three, three, three, three)


def test_figures_are_means_over_pairs(tmp_path):
    data = PreferenceData(Bandit(), eval_batch_size=300)
    got = evaluate(Table(), data, PairFigures(), folder=tmp_path)
    chosen, rejected = data.records("test").pairs[:, :, -1].double().unbind(1)
    assert got["pair_accuracy"] == pytest.approx(float((chosen < rejected).double().mean()))
    assert got["margin"] == pytest.approx(float((rejected - chosen).mean()))
    assert got["chosen_log_prob"] == pytest.approx(float(-chosen.mean()))
    assert got["rejected_change"] == pytest.approx(float(3 - rejected.mean()))

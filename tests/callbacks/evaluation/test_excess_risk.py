"""An uncertainty that is the excess risk, and one that is its opposite."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.excess_risk import ExcessRisk
from datamodules.presentations.with_mean import WithMean
from datamodules.sources.chirp import Chirp
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Zero(Fake):
    """Predicts 0 and knows the wave."""

    sign = 1.0

    def predict_distribution(self, x):
        return torch.distributions.Normal(torch.zeros(len(x)), torch.ones(len(x)))

    def uncertainty(self, x):
        return self.sign * Chirp(turns=2, power=1).wave(x[:, 0]).square()


class Contrary(Zero):
    sign = -1.0


def test_figures(tmp_path):
    data = WithMean(Chirp(turns=2, power=1, test=5000), scale="none")
    got = evaluate(Zero(), data, ExcessRisk(), folder=tmp_path)
    assert got["excess_risk"] == pytest.approx(0.5, abs=0.02)
    assert got["uncertainty"] == pytest.approx(got["excess_risk"], abs=1e-5)
    assert got["excess_spearman"] == pytest.approx(1, abs=1e-4)
    assert got["excess_error"] == pytest.approx(0, abs=1e-5)
    assert evaluate(Contrary(), data, ExcessRisk(), folder=tmp_path)["excess_spearman"] == pytest.approx(-1, abs=1e-4)

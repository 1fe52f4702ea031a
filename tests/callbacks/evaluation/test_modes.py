"""Samplers that reach some modes of a mixture, counted by hand."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.modes import Modes, coverage
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Checkerboard, GaussianMixture, Grid
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate

LAW = GaussianMixture(torch.tensor([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]]), 0.5, torch.tensor([0.5, 0.25, 0.25]))


class Exact(Fake):
    """Draws from a law."""

    def __init__(self, law):
        super().__init__()
        self.law = law

    def sample(self, n):
        return self.law.sample(n)


def test_figures_by_hand():
    """Three draws belong to the first mode, one of them 1.6 away from it; one to the second; none to the third."""
    draws = torch.tensor([[0.1, 0.0], [0.0, 1.4], [0.0, 1.6], [10.0, -1.0]])
    got = coverage(draws, LAW, radius=3.0)
    assert got["modes"] == 2
    assert [coverage(draws, LAW, radius=3.0, least=least)["modes"] for least in (2, 3)] == [1, 0]
    assert got["high_quality"] == 3 / 4
    assert got["mode_kl"] == pytest.approx(0.75 * math.log(0.75 / 0.5), rel=1e-12)


def test_a_collapsed_sampler_pays_the_log_of_the_modes():
    law = Grid().law()
    got = coverage(law.means[3].expand(100, 2), law, radius=3.0)
    assert (got["modes"], got["high_quality"]) == (1, 1)
    assert got["mode_kl"] == pytest.approx(math.log(25), rel=1e-12)


def test_exact_draws_reach_all_modes(tmp_path):
    data = UnlabelledData(Grid(train=100, validation=10, test=20))
    got = evaluate(Exact(Grid().law()), data, Modes(), folder=tmp_path)
    assert got["modes"] == 25
    assert got["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=4 * math.sqrt(0.011 / 2500))
    # 2 n KL is chi-squared with 24 degrees of freedom: mean 24, standard deviation sqrt(48).
    assert 2 * 2500 * got["mode_kl"] == pytest.approx(24, abs=4 * math.sqrt(48))
    assert got == evaluate(Exact(Grid().law()), data, Modes(), folder=tmp_path)


def test_draws_that_are_not_finite_count_for_nothing():
    draws = torch.tensor([[0.0, 0.0], [math.nan, 0.0], [math.inf, 0.0], [10.0, 0.0]])
    got = coverage(draws, LAW, radius=3.0)
    assert (got["modes"], got["high_quality"]) == (2, 0.5)
    lost = coverage(torch.full((3, 2), math.nan), LAW, radius=3.0)
    assert (lost["modes"], lost["high_quality"]) == (0, 0)
    assert math.isnan(lost["mode_kl"])


@pytest.mark.parametrize("data", [Checkerboard(100, 10, 20), Digits()])
def test_it_stays_away_where_there_are_no_components(data, tmp_path):
    modes = Modes()
    assert evaluate(Exact(LAW), UnlabelledData(data, dequantize=False), modes, folder=tmp_path) == {}
    assert "no known mixture" in modes.reason

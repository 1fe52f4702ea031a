"""Variances that are right, and ones that are not, of a law that is known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.second_order import SecondOrderCalibration
from callbacks.metrics.second_order import outside, second_order_error
from compendium.errors import UserError
from datamodules.presentations.two_responses import TwoResponsesData
from datamodules.sources.responses import TwoResponses
from tests.callbacks.evaluation.fakes import Fake, evaluate


def test_the_error_by_hand():
    variance = torch.tensor([0.4, 0.1, 0.2, 0.3]).double()
    squared = torch.tensor([0.5, 0.1, 0.0, 0.3]).double()
    # Bins {0.1, 0.2} and {0.3, 0.4}: gaps of 0.2 and -0.1 in sum.
    assert second_order_error(variance, squared, 2) == pytest.approx(0.3 / 4)
    assert second_order_error(variance, squared, 10) == pytest.approx(0.3 / 4)
    assert second_order_error(variance, squared, 1) == pytest.approx(0.1 / 4)
    assert outside(variance, squared, 0.9) == pytest.approx(1 / 4)
    assert outside(variance, torch.full_like(variance, 1e-8), 0.1) == 0


def test_chebyshevs_bound_holds_in_every_group_of_laws():
    """Thousands of groups of laws with their true variance: never more than beta lie outside, and some nearly so."""
    draw = torch.Generator().manual_seed(0)
    laws = torch.rand(3000, 40, generator=draw, dtype=torch.float64) ** torch.rand(3000, 1, generator=draw).mul(4).exp()
    squared = (laws - laws.mean(1, keepdim=True)).square()
    variance = squared.mean(1, keepdim=True)
    shares = (squared >= variance / 0.1).double().mean(1)
    assert 0.05 < float(shares.max()) <= 0.1


class Ignorant(Fake):
    """Says 1/2 of everything."""

    def predict_log_proba(self, x):
        return torch.full((len(x), 2), math.log(0.5))


class Honest(Ignorant):
    def epistemic_variance(self, x):
        return torch.full((len(x), 2), 0.08)


def test_figures_of_one_who_knows_that_it_knows_nothing(tmp_path):
    source = TwoResponses(turns=3, power=1, amplitude=0.8, train=10, validation=10, test=20_000)
    got = evaluate(Honest(), TwoResponsesData(source, scale="none"), SecondOrderCalibration(), folder=tmp_path)
    # A sine of amplitude 0.4 has the variance 0.08.
    assert got["law_error"] == pytest.approx(0.08, abs=0.002)
    assert got["variance"] == pytest.approx(0.08)
    assert got["second_order_error"] < 0.01
    assert got["naive_second_order_error"] == pytest.approx(0.25 - 0.08, abs=0.002)
    assert got["outside"] == 0
    plain = evaluate(Ignorant(), TwoResponsesData(source, scale="none"), SecondOrderCalibration(), folder=tmp_path)
    assert "variance" not in plain
    assert plain["naive_variance"] == pytest.approx(0.25)


def test_bad_values():
    with pytest.raises(UserError, match="beta=1"):
        SecondOrderCalibration(beta=1)

"""Bounds of laws that are known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.bound import Bound
from compendium.errors import UserError
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianTruth, GaussianVectors, evaluate


class Weighted(Fake):
    """Weights w_k = p(x) exp(s e_k - s^2 / 2) with e_k ~ N(0, 1), whose mean is p(x); the rate is 3 nats."""

    def __init__(self, spread: float) -> None:
        super().__init__()
        self.spread = spread

    def log_weights(self, x, k):
        noise = self.spread * torch.randn(k, len(x)) - self.spread**2 / 2
        return GaussianTruth().log_prob(x) + noise + 3.0, torch.full((k, len(x)), 3.0)


@pytest.fixture
def data():
    return UnlabelledData(GaussianVectors(), test=0.5)


def test_weights_without_spread_are_the_likelihood(data, tmp_path):
    got = evaluate(Weighted(0.0), data, Bound(k=5, chunk=2), folder=tmp_path)
    nll = -float(GaussianTruth().log_prob(data.records("test").x).double().mean())
    assert got["nll_bound"] == pytest.approx(nll, abs=1e-6)
    assert got["nll_elbo"] == pytest.approx(nll, abs=1e-6)
    assert got["rate"] == 3.0
    assert got["reconstruction"] == pytest.approx(nll - 3, abs=1e-6)


def test_the_elbo_is_off_by_half_the_variance_of_the_log_weights(data, tmp_path):
    exact = evaluate(Weighted(0.0), data, Bound(k=1), folder=tmp_path)["nll_bound"]
    got = evaluate(Weighted(0.8), data, Bound(k=512, chunk=100), folder=tmp_path)
    assert got["nll_elbo"] - exact == pytest.approx(0.32, abs=0.01)
    # The bias of a log of a mean: (exp(s^2) - 1) / (2 k).
    assert got["nll_bound"] - exact == pytest.approx(math.expm1(0.64) / 1024, abs=0.004)


def test_only_the_first_records_count(data, tmp_path):
    got = evaluate(Weighted(0.0), data, Bound(limit=7, k=1), folder=tmp_path)
    nll = -float(GaussianTruth().log_prob(data.records("test", 7).x).double().mean())
    assert got["nll_bound"] == pytest.approx(nll, abs=1e-6)


def test_no_sample_is_no_bound():
    with pytest.raises(UserError, match=r"bound\.k=0"):
        Bound(k=0)

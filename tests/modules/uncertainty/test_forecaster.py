"""Forecasts as they are, and their histogram, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.metrics.calibration import smooth_ece
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.forecaster import Forecaster

SPEC = DataSpec("rain", "vector", (1,), target="class", classes=("no", "yes"), bounds=(0.0, 1.0))
X = torch.tensor([[0.05], [0.1], [0.4], [0.95], [1.0]])


def test_takes_forecasts_at_their_word():
    log_proba = Forecaster(SPEC, recalibrate=False).predict_log_proba(X)
    torch.testing.assert_close(log_proba[:, 1].exp(), X[:, 0].double())
    torch.testing.assert_close(log_proba.exp().sum(1), torch.ones(5).double())
    assert float(log_proba[-1, 0]) == -math.inf


def test_the_histogram_by_hand():
    method = Forecaster(SPEC, bins=2)
    method.accumulate(Labelled(X, torch.tensor([0, 1, 1, 1, 1])))
    method.accumulate(Labelled(X[:1], torch.tensor([0])))
    low, high = (1 + 2) / (2 + 4), (1 + 2) / (2 + 2)
    want = torch.tensor([low, low, low, high, high], dtype=torch.float64)
    torch.testing.assert_close(method.predict_log_proba(X)[:, 1].exp(), want)


def test_recalibration_removes_a_known_bias():
    draw = torch.Generator().manual_seed(0)
    x = 0.8 * torch.rand(40_000, 1, generator=draw)
    y = (torch.rand(40_000, generator=draw) < x[:, 0] + 0.2).long()
    method = Forecaster(SPEC)
    method.accumulate(Labelled(x[:20_000], y[:20_000]))
    after = method.predict_log_proba(x[20_000:])[:, 1].exp()
    assert smooth_ece(x[20_000:, 0], y[20_000:]) == pytest.approx(0.2, abs=0.01)
    # Ten bins of 2000 records: their frequencies err by 0.01, and the figure by no more.
    assert smooth_ece(after, y[20_000:]) < 0.015


def test_needs_forecasts_and_a_bin():
    for changes in ({"shape": (2,)}, {"classes": ("a", "b", "c")}, {"bounds": None}):
        with pytest.raises(UserError, match="takes forecasts of a binary event"):
            Forecaster(SPEC.but(**changes))
    with pytest.raises(UserError, match=r"model\.bins=0"):
        Forecaster(SPEC, bins=0)

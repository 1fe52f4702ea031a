"""Calibration of all classes against torchmetrics and loops; the bootstrap band."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from statsmodels.stats.proportion import proportion_confint
from torchmetrics.functional.classification import binary_calibration_error

from callbacks.metrics.calibration import band, binned, binned_ece, brier_parts, classwise_ece, ks_error, reliability


def forecasts(n=500, classes=4, seed=0):
    draw = torch.Generator().manual_seed(seed)
    proba = (2 * torch.randn(n, classes, generator=draw, dtype=torch.float64)).softmax(1)
    return proba, proba.sqrt().multinomial(1, generator=draw).squeeze(1)


def test_classwise_ece_is_the_mean_of_torchmetrics_over_classes():
    proba, y = forecasts()
    theirs = [float(binary_calibration_error(proba[:, k].contiguous(), (y == k).long(), n_bins=15)) for k in range(4)]
    assert classwise_ece(proba, y) == pytest.approx(np.mean(theirs), abs=1e-6)


def test_ks_is_the_largest_sum_of_gaps_whatever_the_order_of_equal_forecasts():
    proba, y = forecasts()
    p, right = (10 * proba.max(1).values).round() / 10, (proba.argmax(1) == y)
    by_hand, total = 0.0, 0.0
    for level in p.unique().tolist():
        total += float((right[p == level].double() - level).sum())
        by_hand = max(by_hand, abs(total))
    assert ks_error(p, right) == pytest.approx(by_hand / len(p), abs=1e-12)
    order = torch.randperm(len(p))
    assert ks_error(p[order], right[order]) == pytest.approx(by_hand / len(p), abs=1e-12)


def test_parts_of_the_brier_score_add_up_and_are_murphy_s():
    proba, y = forecasts()
    parts = brier_parts(proba, y, bins=10)
    score = float((proba - torch.nn.functional.one_hot(y, 4)).square().sum(1).mean())
    assert parts.reliability - parts.resolution + parts.uncertainty + parts.within == pytest.approx(score, abs=1e-12)
    by_hand = 0.0
    for k in range(4):
        p, happened = proba[:, k].numpy(), (y == k).double().numpy()
        for b in range(10):
            inside = (p > b / 10) & (p <= (b + 1) / 10) if b else p <= 0.1
            if inside.any():
                by_hand += inside.mean() * (p[inside].mean() - happened[inside].mean()) ** 2
    assert parts.reliability == pytest.approx(by_hand, abs=1e-12)


def test_bins_are_those_of_the_ece_with_intervals_of_statsmodels():
    proba, y = forecasts()
    p, right = proba[:, 0].contiguous(), (y == 0).double()
    found = binned(p, right, 10)
    assert float((found.share * (found.forecast - found.frequency).abs()).sum()) == pytest.approx(
        binned_ece(p, right, 10)
    )
    counts = (found.share * len(p)).round()
    low, high = proportion_confint((found.frequency * counts).round().numpy(), counts.numpy(), method="wilson")
    np.testing.assert_allclose(found.low.numpy(), low, atol=1e-9)
    np.testing.assert_allclose(found.high.numpy(), high, atol=1e-9)


def test_one_forecast_per_bin_leaves_nothing_within():
    y = torch.arange(100) % 2
    p = torch.tensor([0.2, 0.7], dtype=torch.float64)[(torch.arange(100) // 2) % 2]
    parts = brier_parts(torch.stack([1 - p, p], 1), y)
    assert parts.within == pytest.approx(0, abs=1e-12)
    assert parts.uncertainty == pytest.approx(0.5)
    assert parts.resolution == pytest.approx(0, abs=1e-12)
    assert parts.reliability == pytest.approx(2 * np.mean([0.3**2, 0.2**2]))


def test_no_records_and_nan_are_nan():
    none, y = torch.zeros(0, 3), torch.zeros(0, dtype=torch.long)
    assert math.isnan(classwise_ece(none, y))
    assert math.isnan(ks_error(none[:, 0], y))
    assert math.isnan(brier_parts(none, y).reliability)
    assert math.isnan(brier_parts(torch.tensor([[math.nan, 0.0]]), torch.tensor([0])).within)


def test_the_band_covers_the_frequency_as_often_as_it_says():
    """Forecasts of 1/4 and 3/4 that come true as often: of 200 samples, 95% of bands hold the truth at 1/4."""
    held = 0
    for seed in range(200):
        draw = torch.Generator().manual_seed(seed)
        p = torch.tensor([0.25, 0.75]).repeat(100)
        y = (torch.rand(200, generator=draw) < p).double()
        torch.manual_seed(seed)
        low, high = band(p, y, bandwidth=0.05, points=64, replicates=100)
        held += int(low[16] <= 0.25 <= high[16])
    assert 178 <= held <= 200  # exact binomial interval of 0.95 at 1e-4, wider below by the bootstrap's own bias
    curve = reliability(p, y, points=64)
    assert ((low <= curve.curve + 1e-9) & (curve.curve <= high + 1e-9))[16]

"""Calibration errors and calibrators beside netcal.

netcal is no requirement of the tests: it brings opt_einsum, with which torch takes products of three tensors in another
order, so that figures would differ in their last digits from those of anybody without it.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from callbacks.metrics.calibration import binned, binned_ece
from callbacks.metrics.segmentation import bin_gaps
from modules.uncertainty.calibrators.one_vs_rest import Histogram, Isotonic
from modules.uncertainty.calibrators.parametric import Temperature

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("netcal", reason="pip install netcal, in an environment of its own")
    from netcal.binning import HistogramBinning, IsotonicRegression
    from netcal.metrics import ACE, ECE, MCE
    from netcal.scaling import TemperatureScaling

pytestmark = pytest.mark.filterwarnings("ignore")


def probabilities(n=2000, classes=4, sharpness=2.0, seed=0):
    """Log probabilities (n, classes), float64, sharper than the classes y (n,) that are drawn from them."""
    draw = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, classes, generator=draw, dtype=torch.float64)
    y = logits.softmax(1).multinomial(1, generator=draw).squeeze(1)
    return (sharpness * logits).log_softmax(1), y


def drawn(n=3000, seed=0):
    """Forecasts, some of them near 0 and 1, with as few as none in a bin, and outcomes."""
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(n, generator=draw, dtype=torch.float64) ** 3
    p[: n // 10] = 1 - 1e-9 * torch.rand(n // 10, generator=draw, dtype=torch.float64)
    return p, (torch.rand(n, generator=draw, dtype=torch.float64) < p.sqrt()).double()


@pytest.mark.parametrize("bins", [1, 7, 15, 100])
@pytest.mark.parametrize("n", [1, 30, 3000])
def test_binned_errors_of_an_event(n, bins):
    p, y = drawn(n)
    arrays = p.numpy(), y.long().numpy()
    diagram = binned(p, y, bins)
    gap = (diagram.forecast - diagram.frequency).abs()
    assert binned_ece(p, y, bins) == pytest.approx(ECE(bins).measure(*arrays), abs=1e-6)
    assert gap.max().item() == pytest.approx(MCE(bins).measure(*arrays), abs=1e-6)
    assert gap.mean().item() == pytest.approx(ACE(bins).measure(*arrays), abs=1e-6)


def test_an_edge_of_two_bins_belongs_to_the_lower_one_here_and_to_the_upper_one_there():
    p, y = torch.tensor([0.5, 0.25, 0.75]).double(), torch.tensor([1.0, 1.0, 0.0]).double()
    upper = ECE(2).measure(p.numpy(), y.long().numpy())
    assert upper == pytest.approx((abs(1 - 0.25) + abs(1 - 0.5 + 0 - 0.75)) / 3)
    assert binned_ece(p, y, 2) == pytest.approx((abs(2 - 0.75) + 0.75) / 3)
    assert binned_ece(1 - p, 1 - y, 2) == pytest.approx(ECE(2).measure(p.numpy(), y.long().numpy()))


def test_confidence_of_several_classes():
    log_proba, y = probabilities()
    confidence, top = log_proba.exp().max(1)
    ours = binned_ece(confidence, (top == y).double(), 15)
    assert ours == pytest.approx(ECE(15).measure(log_proba.exp().numpy(), y.numpy()), abs=1e-6)


def test_detections():
    # Scores of detections, and whether each found a box.
    score, found = drawn()
    theirs = ECE(10, detection=True).measure(score.numpy()[:, None], found.long().numpy())
    assert float(bin_gaps(score, found, 10).abs().sum() / len(score)) == pytest.approx(theirs, abs=1e-6)


@pytest.mark.parametrize("sharpness", [0.5, 3.0])
def test_temperature(sharpness):
    log_proba, y = probabilities(sharpness=sharpness)
    ours = Temperature(4, len(y))
    ours.fit(log_proba, y)
    theirs = TemperatureScaling()
    theirs.fit(log_proba.exp().numpy(), y.numpy(), tensorboard=False)
    mapped = torch.from_numpy(np.asarray(theirs.transform(log_proba.exp().numpy())))
    # netcal works in float32.
    torch.testing.assert_close(ours(log_proba).exp(), mapped.double(), atol=1e-3, rtol=0)
    assert F.nll_loss(ours(log_proba), y) <= F.nll_loss(mapped.double().log(), y) + 1e-9


@pytest.mark.parametrize("classes", [2, 4])
def test_isotonic(classes):
    log_proba, y = probabilities(classes=classes)
    ours = Isotonic(classes, len(y))
    ours.fit(log_proba, y)
    p = log_proba.exp().numpy()
    theirs = IsotonicRegression()
    given = p[:, 1] if classes == 2 else p
    theirs.fit(given, y.numpy())
    mapped = torch.from_numpy(theirs.transform(given))
    got = ours(log_proba).exp()
    # No class is quite impossible here.
    torch.testing.assert_close(got[:, 1] if classes == 2 else got, mapped, atol=5e-6, rtol=0)


def test_histogram_of_equally_many_records():
    log_proba, y = probabilities(classes=2)
    ours = Histogram(2, len(y), bins=8)
    ours.fit(log_proba, y)
    theirs = HistogramBinning(8, equal_intervals=False)
    theirs.fit(log_proba.exp()[:, 1].numpy(), y.numpy())
    # Here with Laplace's correction, of the 250 records of each bin.
    expected = (1 + 250 * torch.from_numpy(theirs._bin_map)) / 252
    torch.testing.assert_close(ours.q[0], expected)

"""Calibrators against closed forms, grids and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.calibration import _SigmoidCalibration
from sklearn.cluster import KMeans
from sklearn.isotonic import IsotonicRegression
from torch.nn import functional as F

from compendium.errors import UserError
from modules.uncertainty.calibrators.h_calibration import HCalibration, clustered
from modules.uncertainty.calibrators.one_vs_rest import Histogram, Isotonic, Platt
from modules.uncertainty.calibrators.parametric import Dirichlet, Temperature, Unchanged, Vector

CLASSES = 4


def forecasts(n: int, seed: int, sharpness: float = 1.0, classes: int = CLASSES):
    """Log probabilities that are `sharpness` times too sharp, and classes that the right ones are drawn from."""
    draw = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(n, classes, generator=draw, dtype=torch.float64)
    y = logits.softmax(1).multinomial(1, generator=draw).squeeze(1)
    return (sharpness * logits).log_softmax(1), y


ALL = [Unchanged, Temperature, Vector, Dirichlet, Platt, Isotonic, Histogram, HCalibration]


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("classes", [2, CLASSES])
def test_probabilities_add_up_and_state_restores_to_the_same_bits(kind, classes):
    log_proba, y = forecasts(120, 0, 3.0, classes)
    calibrator = kind(classes, len(y))
    calibrator.fit(log_proba, y)
    extreme = torch.cat([log_proba, torch.tensor([[0.0] + [-torch.inf] * (classes - 1)], dtype=torch.float64)])
    out = calibrator(extreme)
    assert not out.isnan().any()
    torch.testing.assert_close(out.exp().sum(1), torch.ones(len(out), dtype=torch.float64))
    other = kind(classes, len(y))
    other.load_state_dict(calibrator.state_dict())
    assert torch.equal(other(extreme), out)


def test_temperature_finds_the_one_that_forecasts_were_sharpened_by():
    log_proba, y = forecasts(20000, 1, 2.5)
    calibrator = Temperature(CLASSES, len(y))
    calibrator.fit(log_proba, y)
    assert float(calibrator.log_temperature.exp()) == pytest.approx(2.5, rel=0.05)


@pytest.mark.parametrize("kind", [Vector, Dirichlet])
def test_slopes_and_intercepts_are_where_the_penalised_loss_is_flat(kind):
    log_proba, y = forecasts(200, 2, 2.0)
    calibrator = kind(CLASSES, len(y), penalty=0.05)
    calibrator.fit(log_proba, y)
    weight, bias = calibrator.weight.clone().requires_grad_(), calibrator.bias.clone().requires_grad_()
    off = weight[~torch.eye(CLASSES, dtype=torch.bool)]
    slope = weight.diag() - 1
    bend = off.square().mean() if kind is Dirichlet else slope.square().mean()
    loss = F.cross_entropy(log_proba @ weight.T + bias, y) + 0.05 * (bend + bias.square().mean())
    loss.backward()
    moved = weight.grad if kind is Dirichlet else weight.grad.diag()
    assert moved.abs().max() < 1e-6
    assert bias.grad.abs().max() < 1e-6
    if kind is Vector:
        assert not off.any()


def test_platt_and_isotonic_are_those_of_scikit_learn():
    log_proba, y = forecasts(300, 3, 3.0, classes=2)
    p = log_proba.exp()[:, 1].numpy()
    fresh = forecasts(50, 4, 3.0, classes=2)[0]

    platt = Platt(2, len(y))
    platt.fit(log_proba, y)
    score = torch.logit(log_proba.exp()[:, 1]).numpy()
    theirs = _SigmoidCalibration().fit(score, y.numpy())
    ours = platt(fresh)[:, 1].exp()
    expected = theirs.predict(torch.logit(fresh.exp()[:, 1]).numpy())
    np.testing.assert_allclose(ours.numpy(), expected, atol=1e-4)

    isotonic = Isotonic(2, len(y))
    isotonic.fit(log_proba, y)
    curve = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(p, y.numpy())
    expected = curve.predict(fresh.exp()[:, 1].numpy())
    np.testing.assert_allclose(isotonic.frequency(fresh.exp()[:, 1:]).numpy()[:, 0], expected, atol=1e-12)


def test_histogram_counts_what_came_true_in_each_bin():
    p = torch.tensor([0.05, 0.1, 0.2, 0.6, 0.8, 0.9], dtype=torch.float64)
    y = torch.tensor([0, 0, 1, 1, 0, 1])
    calibrator = Histogram(2, len(p), bins=2)
    calibrator.fit(torch.stack([1 - p, p], 1).log(), y)
    assert calibrator.edges.tolist() == [[pytest.approx(0.4)]]
    assert calibrator.q.tolist() == [[pytest.approx((1 + 1) / (2 + 3)), pytest.approx((1 + 2) / (2 + 3))]]


def labels(ordered: torch.Tensor, clusters: int, rounds: int) -> np.ndarray:
    """The clusters of one list of numbers."""
    return clustered(ordered[None], torch.tensor([[len(ordered)]]), clusters, rounds)[0].numpy()


def reference_loss(p: np.ndarray, y: np.ndarray, window: int, tolerance: float, clusters: int) -> float:
    """The loss of h-calibration, event by event."""
    losses = []
    for left_out in range(p.shape[1]):
        events = sorted(
            (p[i, c], float(y[i] == c)) for i in range(len(y)) if y[i] != left_out for c in range(p.shape[1])
        )
        values = np.array([event[0] for event in events])
        errors = []
        for e in range(len(events)):
            near = events[max(0, e - window // 2) : e + window // 2 + 1]
            not_occurred = sum(q * (1 - happened) for q, happened in near) / (window + 1)
            occurred = sum((1 - q) * happened for q, happened in near) / (window + 1)
            errors.append(max(0.0, abs(not_occurred - occurred) - tolerance))
        label = labels(torch.from_numpy(values), clusters, HCalibration.REFINEMENTS)
        losses.append(
            sum(np.mean(np.array(errors)[label == k]) if (label == k).any() else 0.0 for k in range(clusters))
            / clusters
        )
    return float(np.mean(losses))


def test_h_calibration_has_the_loss_that_is_written_out_event_by_event():
    log_proba, y = forecasts(30, 5, 3.0)
    calibrator = HCalibration(CLASSES, 30, window=10, tolerance=0.01, clusters=4)
    ours = float(calibrator.loss(log_proba.exp(), y))
    assert ours == pytest.approx(reference_loss(log_proba.exp().numpy(), y.numpy(), 10, 0.01, 4), rel=1e-9)


def test_clusters_of_the_line_are_those_of_scikit_learn():
    p = torch.rand(200, generator=torch.Generator().manual_seed(0), dtype=torch.float64).square().sort().values
    start = p[torch.linspace(0, 199, 11)[1::2].round().long()][:, None].numpy()
    theirs = KMeans(5, init=start, n_init=1, max_iter=300, tol=0).fit(p[:, None].numpy())
    assert labels(p, 5, 300).tolist() == theirs.labels_.tolist()


def test_h_calibration_makes_its_own_loss_small_and_keeps_the_order_of_classes():
    log_proba, y = forecasts(400, 6, 4.0)
    calibrator = HCalibration(CLASSES, len(y), window=60)
    sharp = float(calibrator.loss(log_proba.exp(), y))
    right = float(calibrator.loss((log_proba / 4).log_softmax(1).exp(), y))  # the law that y was drawn from
    calibrator.fit(log_proba, y)
    found = calibrator(log_proba)
    assert float(calibrator.loss(found.exp(), y)) < right < 0.5 * sharp
    assert torch.equal(found.argsort(1), log_proba.argsort(1))


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        (Vector, {"penalty": -1}), (Dirichlet, {"penalty": -1}), (Histogram, {"bins": 0}),
        (HCalibration, {"window": 3}), (HCalibration, {"tolerance": 1.0}), (HCalibration, {"steps": 0}),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(kind, arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        kind(3, 10, **arguments)

"""Detection and selection against scikit-learn and loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from callbacks.metrics.detection import aurc, risk_coverage, separation


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e6])
def test_separation_is_that_of_scikit_learn_ties_included(scale):
    draw = torch.Generator().manual_seed(0)
    positive = torch.rand(300, generator=draw) < 0.3
    score = scale * ((torch.randn(300, generator=draw) + positive) * 4).round().double()
    found = separation(score, positive)
    ranks = np.unique(score.numpy(), return_inverse=True)[1]
    assert found["auroc"] == pytest.approx(roc_auc_score(positive.numpy(), ranks), abs=1e-6)
    assert found["aupr"] == pytest.approx(average_precision_score(positive.numpy(), ranks), abs=1e-6)
    false, true, _ = roc_curve(positive.numpy(), ranks, drop_intermediate=False)
    assert found["fpr95"] == pytest.approx(false[true >= 0.95][0], abs=1e-6)


def test_what_cannot_be_told_apart_is_nan():
    score = torch.tensor([0.1, 0.2])
    for positive in (torch.tensor([True, True]), torch.tensor([False, False])):
        assert all(math.isnan(value) for value in separation(score, positive).values())
    assert math.isnan(separation(torch.tensor([0.1, torch.nan]), torch.tensor([True, False]))["auroc"])


def test_risk_coverage_is_the_mean_loss_of_the_most_certain():
    uncertainty, loss = torch.tensor([0.3, 0.1, 0.2, 0.4]), torch.tensor([1.0, 0.0, 1.0, 0.0])
    curve = risk_coverage(uncertainty, loss)
    assert curve.tolist() == pytest.approx([0, 1 / 2, 2 / 3, 1 / 2])
    assert aurc(uncertainty, loss) == pytest.approx(np.mean([0, 1 / 2, 2 / 3, 1 / 2]))


def test_ties_are_the_mean_over_their_orders():
    uncertainty, loss = torch.tensor([0.1, 0.2, 0.2, 0.2]), torch.tensor([0.0, 1.0, 0.0, 0.0])
    orders = [[0.0, *order] for order in ([1, 0, 0], [0, 1, 0], [0, 0, 1])]
    expected = np.mean([np.cumsum(order) / np.arange(1, 5) for order in orders], axis=0)
    assert risk_coverage(uncertainty, loss).tolist() == pytest.approx(expected.tolist())

"""Precision, recall and realism by hand and against scikit-learn's neighbours."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

from callbacks.metrics import manifolds
from callbacks.metrics.manifolds import mean_distance, precision_recall, realism


def test_on_a_line_by_hand():
    """Real 0, 1, 3 with k = 1 have balls of radius 1, 1 and 2; fakes 2, 2.5, 9 of radius 0.5, 0.5 and 6.5."""
    real, fake = torch.tensor([[0.0], [1.0], [3.0]]), torch.tensor([[2.0], [2.5], [9.0]])
    precision, recall = precision_recall(real, fake, k=1)
    assert precision.item() == pytest.approx(2 / 3, abs=0)  # 9 is outside; 2 lies on the edge of the ball around 1
    assert recall.item() == pytest.approx(1 / 3, abs=0)  # 3 is in the balls of 2.5 and 9; 0 and 1 are in none
    # The balls of 0 and 1 are the smaller ones (the median is 1): 1 / 1, 1 / 1.5, 1 / 8.
    assert realism(real, fake, k=1).tolist() == pytest.approx([1, 2 / 3, 1 / 8], rel=1e-15)
    assert realism(real, real[:1], k=1).item() == math.inf
    assert mean_distance(real).item() == pytest.approx((1 + 3 + 2) / 3, rel=1e-15)


@pytest.mark.parametrize("k", [1, 3, 5])
def test_equal_to_scikit_learn(k, monkeypatch):
    monkeypatch.setattr(manifolds, "BLOCK_ROWS", 37)
    draw = torch.Generator().manual_seed(k)
    real = torch.randn(200, 3, generator=draw, dtype=torch.float64)
    fake = 0.3 + torch.randn(150, 3, generator=draw, dtype=torch.float64)
    theirs = []
    for centres, points in ((real, fake), (fake, real)):
        radius = NearestNeighbors().fit(centres.numpy()).kneighbors(n_neighbors=k)[0][:, -1]
        distance = NearestNeighbors(algorithm="brute").fit(centres.numpy())
        distance, index = distance.kneighbors(points.numpy(), n_neighbors=len(centres))
        theirs.append((distance <= radius[index]).any(1).mean())
    assert [value.item() for value in precision_recall(real, fake, k)] == pytest.approx(theirs, abs=1e-12)
    assert theirs[0] != theirs[1]
    swapped = precision_recall(fake, real, k)
    assert [value.item() for value in reversed(swapped)] == pytest.approx(theirs, abs=1e-12)


def test_the_same_points_are_all_inside_and_far_ones_are_not():
    points = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
    assert [value.item() for value in precision_recall(points, points)] == [1, 1]
    assert [value.item() for value in precision_recall(points, points + 100)] == [0, 0]
    collapsed = points[:1].expand(50, 2)  # all in one place, which is real; its balls hold nothing but that point
    assert [value.item() for value in precision_recall(points, collapsed)] == [1, 1 / 50]


def test_the_mean_distance_of_gaussians():
    """The difference of two is N(0, 2 I), whose length in two dimensions has mean sqrt(pi)."""
    points = torch.randn(3000, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert mean_distance(points).item() == pytest.approx(math.sqrt(math.pi), rel=0.02)
    assert mean_distance(points[:1200]).item() == pytest.approx(torch.pdist(points[:1200]).mean().item(), rel=1e-12)


def test_what_is_not_finite_or_too_few_is_not_known():
    points = torch.randn(10, 2)
    lost = points.clone()
    lost[3] = math.nan
    for real, fake in ((lost, points), (points, lost), (points[:3], points), (points, points[:3])):
        assert all(math.isnan(value) for value in precision_recall(real, fake, k=3))
    assert realism(lost, points).isnan().all()
    assert math.isnan(mean_distance(lost))
    assert math.isnan(mean_distance(points[:1]))

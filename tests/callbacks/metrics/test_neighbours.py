"""Nearest neighbours against scikit-learn and by hand."""

from __future__ import annotations

import torch
from sklearn.neighbors import KNeighborsClassifier

from callbacks.metrics.neighbours import knn_predict


def test_unweighted_votes_equal_scikit_learn():
    draw = torch.Generator().manual_seed(0)
    train, queries = torch.randn(300, 5, generator=draw), torch.randn(2000, 5, generator=draw)
    labels = torch.randint(3, (300,), generator=draw)
    theirs = KNeighborsClassifier(7, metric="cosine").fit(train.numpy(), labels.numpy()).predict(queries.numpy())
    ours = knn_predict(train, labels, queries, classes=3, k=7, temperature=None)
    assert torch.equal(ours, torch.from_numpy(theirs))


def test_temperature_lets_the_nearest_outvote_the_many():
    # Cosines with the query: 1 for class 0, 0.8 twice for class 1. exp(1 / T) against 2 exp(0.8 / T): equal at
    # T = 0.2 / ln 2 = 0.2885.
    train = torch.tensor([[1.0, 0.0], [0.8, 0.6], [0.8, -0.6]])
    labels, query = torch.tensor([0, 1, 1]), torch.tensor([[2.0, 0.0]])
    assert knn_predict(train, labels, query, classes=2, k=3, temperature=0.28).item() == 0
    assert knn_predict(train, labels, query, classes=2, k=3, temperature=0.30).item() == 1
    assert knn_predict(train, labels, query, classes=2, k=3, temperature=1e-4).item() == 0


def test_more_neighbours_than_records_and_no_queries():
    train, labels = torch.eye(3), torch.tensor([2, 2, 1])
    assert knn_predict(train, labels, torch.ones(4, 3), classes=3, k=20).tolist() == [2, 2, 2, 2]
    assert len(knn_predict(train, labels, torch.ones(0, 3), classes=3)) == 0

"""Classification by nearest neighbours."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

BLOCK_ROWS = 1024


def knn_predict(
    train: Tensor, labels: Tensor, queries: Tensor, *, classes: int, k: int = 20, temperature: float | None = 0.07
) -> Tensor:
    """The class with the most votes among the k training records of highest cosine similarity s.

    A neighbour's vote weighs exp(s / temperature) (Wu et al. 2018, section 3.4); of equal votes the lower class wins.

    Args:
        train: embeddings (N, D); k is cut down to N.
        labels: int64 (N,).
        queries: embeddings (M, D).
        classes: number of classes.
        k: neighbours (DINO, Caron et al. 2021, uses 20).
        temperature: 0.07 in both papers; None lets all k neighbours weigh the same.

    Returns:
        Class indices int64 (M,).
    """
    train = normalize(train, dim=1)
    predicted = []
    for block in queries.split(BLOCK_ROWS):
        similarity, nearest = (normalize(block, dim=1) @ train.T).topk(min(k, len(train)), dim=1)
        # Relative to the nearest: the largest weight is 1, whatever the temperature.
        weight = (
            torch.ones_like(similarity)
            if temperature is None
            else ((similarity - similarity[:, :1]) / temperature).exp()
        )
        votes = (weight[..., None] * one_hot(labels[nearest], classes)).sum(1)
        predicted.append(votes.argmax(1))
    return torch.cat(predicted) if predicted else labels.new_empty(0)

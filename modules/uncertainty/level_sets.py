"""Boosting by level sets: a predictor that no function of a class can improve on any of its own level sets."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot, pad


class LevelSetBoosting(nn.Module):
    """Predicts real targets by corrections that are linear on the level sets of the round before.

    From the mean on, each round cuts the range of predictions into `levels` parts of equally many training records,
    fits a ridge regression of the residual within each, and adds it where it lowers the squared error there by a share
    of `gain` at least. Where nothing is added any more, no linear function correlates with the residual on any level
    set: the predictor is multicalibrated (Hébert-Johnson et al. 2018) for them.

    Globus-Harris et al. 2023, "Multicalibration as Boosting for Regression": the algorithm. Deviations: parts of
    equally many records in the place of equal width; a correction is added to the prediction, where theirs replaces a
    prediction that is rounded to its level; all regressions of a round are solved at once.

    Args:
        features: of a record.
        levels: of the partition.
        rounds: at most; later ones change nothing once nothing is added.
        gain: share of the squared error of a level.
        ridge: added to the diagonal of the Gram matrices.
    """

    edges: Tensor
    weights: Tensor
    start: Tensor

    def __init__(self, features: int, levels: int, rounds: int, gain: float, ridge: float) -> None:
        super().__init__()
        self.levels, self.gain, self.ridge = levels, gain, ridge
        self.register_buffer("edges", torch.zeros(rounds + 1, levels - 1, dtype=torch.float64))
        self.register_buffer("weights", torch.zeros(rounds, levels, features + 1, dtype=torch.float64))
        self.register_buffer("start", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor, y: Tensor) -> None:
        """Learn from records (n, D) and targets (n,), float64."""
        self.start.copy_(y.mean())
        prediction = self.start.repeat(len(y))
        ones = pad(x, (1, 0), value=1.0)
        diagonal = torch.full((ones.shape[1],), self.ridge, dtype=x.dtype, device=x.device)
        diagonal[0] = 1e-9
        for edges, weights in zip(self.edges[:-1], self.weights, strict=True):
            edges.copy_(cuts(prediction, self.levels))
            member = one_hot(torch.bucketize(prediction, edges), self.levels).to(x.dtype)
            residual = y - prediction
            gram = torch.einsum("nk,nd,ne->kde", member, ones, ones) + diagonal.diag()
            found = torch.linalg.solve(gram, torch.einsum("nk,nd,n->kd", member, ones, residual)[..., None]).squeeze(2)
            correction = (member @ found * ones).sum(1)
            before, after = (member.T @ error.square() for error in (residual, residual - correction))
            weights.copy_(found * (after < (1 - self.gain) * before)[:, None])
            prediction = prediction + (member @ weights * ones).sum(1)
        self.edges[-1] = cuts(prediction, self.levels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Records (B, D), float64 -> predictions (B,) and their level sets int64 (B,)."""
        prediction = self.start.repeat(len(x))
        ones = pad(x, (1, 0), value=1.0)
        for edges, weights in zip(self.edges[:-1], self.weights, strict=True):
            prediction = prediction + (weights[torch.bucketize(prediction, edges)] * ones).sum(1)
        return prediction, torch.bucketize(prediction, self.edges[-1])


def cuts(values: Tensor, parts: int) -> Tensor:
    """Values (n,) -> where to cut for parts of equally many (parts - 1,)."""
    places = torch.arange(1, parts, dtype=values.dtype, device=values.device) / parts
    return torch.quantile(values, places)

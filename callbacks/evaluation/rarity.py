"""Whether a sampler's draws are rare records or common ones."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.samples import BesideRecords
from callbacks.features import feature_space
from callbacks.metrics.manifolds import BLOCK_ROWS, distances
from compendium.errors import UserError


class Rarity(BesideRecords):
    """How far from held-out records a Sampler's draws lie, in `callbacks.features.feature_space`.

    - `rarity`: mean over draws of the mean distance to the k nearest records (AvgkNN), divided by that of the records
      to each other; 1 is as rare as the data.
    - `tail`: share of the draws for which that distance is larger than for 95% of the records; 0.05 is as the data.
    - `outlyingness`: mean local outlier factor of the draws among the records (Breunig et al. 2000).

    Noise scores high in all three: they say something only beside `precision`. Draws that are not finite make it NaN.

    Um et al. 2024, "Don't Play Favorites: Minority Guidance for Diffusion Models", section 4 (AvgkNN, LOF).
    Deviation: features of a classifier of the data at hand, and of vectors the vectors themselves, not of ResNet-50.

    Args:
        n: number of draws and of records. 1000 as in `Samples`, whose draws these are.
        k: neighbours of a draw. Default 5, as in Sehwag et al. 2022; LOF has scikit-learn's 20.
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: k below 1.
    """

    papers = ("um2024don",)

    def __init__(self, n: int = 1000, k: int = 5, **parts: Any) -> None:
        super().__init__(n, **parts)
        if k < 1:
            raise UserError(f"{self.name}.k={k}: the nearest neighbour is the first.")
        self.k = k

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        from sklearn.neighbors import LocalOutlierFactor

        features = feature_space(data)
        drawn, real = (features(part).double() for part in (drawn, real))
        if len(real) < self.k + 2 or not len(drawn) or not bool(drawn.isfinite().all() and real.isfinite().all()):
            return dict.fromkeys(("rarity", "tail", "outlyingness"), math.nan)
        own, far = nearest(real, real, self.k + 1) * (self.k + 1) / self.k, nearest(drawn, real, self.k)
        outliers = LocalOutlierFactor(n_neighbors=min(20, len(real) - 1), novelty=True).fit(real.cpu().numpy())
        return {
            "rarity": float(far.mean() / own.mean()),
            "tail": float((far > own.quantile(0.95)).double().mean()),
            "outlyingness": float(-outliers.score_samples(drawn.cpu().numpy()).mean()),
        }


def nearest(points: Tensor, records: Tensor, k: int) -> Tensor:
    """Mean distance (N,) of points (N, D) to their k nearest records (M, D); a record among them counts as 0."""
    return torch.cat(
        [distances(rows, records).topk(k, dim=1, largest=False).values.mean(1) for rows in points.split(BLOCK_ROWS)]
    )

"""Whether a sampler's draws look real, and whether they reach everything that is real: told apart."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from callbacks.evaluation.samples import BesideRecords
from callbacks.features import feature_space
from callbacks.metrics.manifolds import mean_distance, precision_recall, realism
from compendium.errors import UserError


class Fidelity(BesideRecords):
    """Figures of equally many draws of a Sampler and held-out records, in `callbacks.features.feature_space`.

    - `precision`: share of the draws that lie where records are, `recall`: share of the records that lie where draws
      are, see `callbacks.metrics.manifolds.precision_recall`.
    - `realism`: the median of the draws' realism scores, see `callbacks.metrics.manifolds.realism`.
    - `diversity`: mean distance between two draws divided by that between two records; 1 is as diverse as the data,
      0 is one picture over and over. Noise has much of it: it says something only beside `precision`.

    Training records in the place of the draws score less than 1: on digits about 0.93 and 0.87.

    Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models".
    Deviations: (1) features of a classifier of the data at hand instead of VGG-16, and of vectors the vectors
    themselves; (2) the median realism stands for the scores of single pictures; (3) `diversity` is no figure of theirs.

    Args:
        n: number of draws and of records, cut down to the records that there are. 1000 as in `Samples`, whose draws
            these are; the paper has 50000.
        k: of the k-th nearest neighbour (section 2 of the paper: 3).
        parts: the arguments of `Evaluation`.

    Raises:
        UserError: k below 1.
    """

    papers = ("kynkaanniemi2019improved",)

    def __init__(self, n: int = 1000, k: int = 3, **parts: Any) -> None:
        super().__init__(n, **parts)
        if k < 1:
            raise UserError(f"{self.name}.k={k}: the nearest neighbour is the first.")
        self.k = k

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        features = feature_space(data)
        count = min(len(drawn), len(real))
        drawn, real = features(drawn[:count]), features(real[:count])
        precision, recall = precision_recall(real, drawn, self.k)
        return {
            "precision": float(precision),
            "recall": float(recall),
            "realism": float(realism(real, drawn, self.k).median()) if count else math.nan,
            "diversity": float(mean_distance(drawn) / mean_distance(real)),
        }

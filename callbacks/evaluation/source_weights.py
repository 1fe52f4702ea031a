"""Whether a method learns from the sources that are right."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Sourced
from modules.capabilities import Reweighting


class SourceWeights(Evaluation):
    """Figures of the weights that a Reweighting method gives the sources of `datamodule=sourced`.

    - `right_weight`: weight on right labels, which is their share where all weights are equal.
    - `best_weight`: weight of the source with the smallest share of wrong labels, of all of them where several tie.
    - `order`: probability that a source whose labels are mostly right outweighs one whose labels are mostly wrong, ties
      counted half; NaN where there is but one kind.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Reweighting,)
    batch_type = Sourced
    stages = ("test",)

    def misfit(self, method, spec):
        return None if method.source_weights() is not None else "its problem weighs no sources"

    def misfit_of_records(self, data):
        return None if hasattr(data, "share_of_wrong") else "nobody knows which sources are right"

    def compute(self, method, data) -> Mapping[str, float]:
        weight, wrong = method.source_weights().double().cpu(), data.share_of_wrong()
        good, bad = weight[wrong < 0.5], weight[wrong >= 0.5].sort().values
        below = (torch.searchsorted(bad, good) + torch.searchsorted(bad, good, right=True)).double().mean() / 2
        return {
            "right_weight": float((weight * (1 - wrong)).sum()),
            "best_weight": float(weight[wrong == wrong.min()].sum()),
            "order": float(below / len(bad)) if len(good) and len(bad) else math.nan,
        }

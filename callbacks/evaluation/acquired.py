"""How well preferences are predicted that a model has asked for few labels of, and what it asked for."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.nn import functional as F

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from datamodules.batches import FeaturedPairs
from modules.capabilities import Acquirer


class AcquiredFigures(Evaluation):
    """Figures of an Acquirer on FeaturedPairs batches.

    - `nll`: mean of -ln p of the chosen answer, nats, and `pair_accuracy`: share of pairs with p above 1/2, ties half.
    - `labels`: how many training pairs were labelled, and `distinct_prompts`: share of them whose prompt is the first
      of its kind, so that 1 is no repetition.

    Args:
        parts: the arguments of `Evaluation`.
    """

    capabilities = (Acquirer,)
    batch_type = FeaturedPairs

    def start(self, method, data) -> None:
        self.means = {name: mean_of(method) for name in ("nll", "pair_accuracy")}

    def update(self, method, batch) -> None:
        logit = precise(method.preference_logit(batch.pairs))
        self.means["nll"].update(-F.logsigmoid(logit))
        self.means["pair_accuracy"].update((1 + logit.sign()) / 2)

    def compute(self, method, data) -> Mapping[str, float]:
        rows = data.rows["train"][method.acquired_rows().cpu()]
        figures = {name: float(mean.compute()) for name, mean in self.means.items()}
        figures["labels"] = float(len(rows))
        distinct = len(torch.unique(data.columns["prompt"][rows], dim=0)) if len(rows) else float("nan")
        return figures | {"distinct_prompts": distinct / max(1, len(rows))}

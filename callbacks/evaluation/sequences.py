"""Likelihood of whole texts, or a bound of it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.base import Evaluation, mean_of
from datamodules.batches import Tokens
from modules.capabilities import SequenceDensity


class Sequences(Evaluation):
    """Figures of a SequenceDensity on Tokens batches, over all tokens of a record but the first one.

    - `nll_bound`: mean of -ln p(x) per token, nats, or an upper bound of it. An autoregressive model's `nll` is of the
      same tokens; it also reads the first one.
    - `perplexity_bound`: exp(nll_bound).

    Windows at the end of a split that are shorter than the others are left out: a method may read one length alone.
    """

    capabilities = (SequenceDensity,)
    batch_type = Tokens

    def start(self, method, data) -> None:
        self.nll = mean_of(method)
        self.length = data.spec.shape[0]

    def update(self, method, batch) -> None:
        x = batch.ids[:, 1:]
        if x.shape[1] == self.length:
            self.nll.update(-method.sequence_log_prob(x).double() / self.length)

    def compute(self, method, data: Any) -> Mapping[str, float]:
        nll = float(self.nll.compute()) if self.nll.update_called else math.nan
        return {"nll_bound": nll, "perplexity_bound": math.exp(nll) if not nll > 700 else math.inf}

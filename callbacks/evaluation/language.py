"""Likelihood of held-out text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from callbacks.evaluation.base import Evaluation, mean_of
from callbacks.metrics.precision import precise
from datamodules.batches import Tokens
from modules.capabilities import LanguageModel


class Language(Evaluation):
    """Figures of a LanguageModel on Tokens batches; each token of a split but the first is predicted exactly once.

    - `nll`: mean of -ln p(x_t | the tokens before it in its window), nats per token.
    - `perplexity`: exp(nll); infinite where that is beyond the largest float.
    - `bits_per_byte`: nll / ln 2, where a token is a byte; figures per token of other tokens are not comparable.

    A NaN among the probabilities makes all of them NaN.
    """

    capabilities = (LanguageModel,)
    batch_type = Tokens

    def start(self, method, data) -> None:
        self.nll = mean_of(method)

    def update(self, method, batch) -> None:
        log_probs = self.ask(method, "next_token_log_probs", batch.ids[:, :-1])
        following = batch.ids[:, 1:, None].to(log_probs.device)
        self.nll.update(-precise(log_probs.gather(2, following)))

    def compute(self, method, data: Any) -> Mapping[str, float]:
        nll = float(self.nll.compute())
        figures = {"nll": nll, "perplexity": math.exp(nll) if not nll > 700 else math.inf}
        if getattr(data, "tokenizer_name", None) == "byte":
            figures["bits_per_byte"] = nll / math.log(2)
        return figures

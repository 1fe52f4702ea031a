"""Whether a model knows a fact in the direction in which it was not stated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from datamodules.batches import Tokens
from datamodules.sources.facts import BACKWARD, FORWARD, Facts
from modules.capabilities import Completer, LanguageModel


class Recall(Evaluation):
    """Share of the pairs (a, b) that were stated as `a>b` alone, for which the missing name comes out exactly.

    - `forward`: b, given `a>`.
    - `backward`: a, given `b<`.
    - `infilled`: a, given `>b` in its place, in the direction in which the fact was stated.

    A `Completer` fills the gaps in as it does. A `LanguageModel` goes from left to right, takes the likeliest token for
    a missing one, and reads those that are given; `infilled` asks it for what it cannot do, `backward` for what it can.

    The source has to be `Facts`.

    Args:
        parts: the arguments of `Evaluation`.
    """

    batch_type = Tokens
    stages = ("test",)

    def misfit(self, method, spec):
        fits = isinstance(method, Completer | LanguageModel)
        return None if fits else f"{type(method).__name__} is no Completer and no LanguageModel"

    def misfit_of_records(self, data):
        return None if isinstance(data.source, Facts) else "the data are no facts"

    def compute(self, method, data) -> Mapping[str, float]:
        source: Facts = data.source
        facts = source.facts[source.turned :]
        length = len(facts[0][0])
        before, after = slice(0, length), slice(length + 1, None)
        forward, backward = [f"{a}{FORWARD}{b}" for a, b in facts], [f"{b}{BACKWARD}{a}" for a, b in facts]
        questions = {"forward": (forward, after), "backward": (backward, after), "infilled": (forward, before)}
        return {name: self.share(method, data, *question) for name, question in questions.items()}

    def share(self, method: Any, data: Any, texts: list[str], missing: slice) -> float:
        """Share of the texts that come out as they are when a part of each was missing."""
        x = torch.zeros(len(texts), data.spec.shape[0], dtype=torch.long)
        for row, text in zip(x, texts, strict=True):
            row[: len(text)] = data.tokenizer.encode(text)
        x = x.to(method.device)
        gap = torch.zeros_like(x, dtype=torch.bool)
        gap[:, : len(texts[0])][:, missing] = True
        if isinstance(method, Completer):
            found = method.complete(x.masked_fill(gap, method.mask))
        else:
            found = left_to_right(method, x, gap)
        return float((found == x).all(1).double().mean())


def left_to_right(method: LanguageModel, x: Tensor, gap: Tensor) -> Tensor:
    """x int64 (B, T) with its gaps (B, T) filled in by the likeliest next token, after a separator."""
    ids = torch.cat([torch.zeros_like(x[:, :1]), x.masked_fill(gap, 0)], dim=1)
    for place in range(x.shape[1]):
        if gap[:, place].any():
            likeliest = method.next_token_log_probs(ids[:, : place + 1])[:, -1].argmax(1)
            ids[:, place + 1] = torch.where(gap[:, place], likeliest, ids[:, place + 1])
    return ids[:, 1:]

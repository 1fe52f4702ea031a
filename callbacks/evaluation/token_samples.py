"""Draws of a sampler of text, against the exact law of the source where it is known."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.base import Evaluation
from callbacks.evaluation.samples import CHUNK
from compendium.seeding import seeded
from datamodules.batches import Tokens
from datamodules.sources.chains import Chain
from modules.capabilities import Sampler


class TokenSamples(Evaluation):
    """Figures of n draws of a Sampler of text.

    - `sample_entropy`: entropy of the frequencies of all drawn tokens, nats; of few draws it comes out too low.
    - `calls`: calls of the method's network `net` per chunk of draws, where it has one.

    Where the source is a `Chain`, whose law is known:

    - `foreign`: share of the draws that hold a character that the source lacks. The figures below leave them out.
    - `sample_nll`: mean of -ln p(draw) per token, nats: generative perplexity by a perfect judge. A judge is also
      pleased by few letters, hence `pair_kl`.
    - `sample_excess`: `sample_nll` minus the same for the records of the split.
    - `pair_kl`: KL(q || p) of the frequencies q of neighbouring letters in the draws and their probabilities p, nats.
      Exact draws score about (letters^2 - 1) / (2 pairs).

    Draws come in chunks of `chunk`, each from a random stream of its own.

    Args:
        n: number of draws.
        chunk: draws per call of `sample`.
        stages: see `Evaluation`.
    """

    capabilities = (Sampler,)
    batch_type = Tokens
    stages = ("test",)

    def __init__(self, n: int = 1000, chunk: int = CHUNK, **parts: Any) -> None:
        super().__init__(**parts)
        self.n, self.chunk = n, chunk

    def compute(self, method, data) -> Mapping[str, float]:
        drawn, calls = self.draw(method, data)
        share = drawn.flatten().bincount().double() / drawn.numel()
        figures = {"sample_entropy": float(torch.special.entr(share).sum())}
        if calls is not None:
            figures["calls"] = calls
        if isinstance(data.source, Chain):
            texts = [data.tokenizer.decode(row) for row in drawn]
            log_p = data.source.log_prob(texts)
            known = log_p.isfinite()
            figures["foreign"] = 1 - float(known.double().mean())
            texts = [text for text, kept in zip(texts, known.tolist(), strict=True) if kept]
            nll = float(-log_p[known].mean()) / drawn.shape[1]
            real = [data.tokenizer.decode(row[1:]) for row in data.records(self.split).ids]
            truth = float(-data.source.log_prob(real).mean()) / drawn.shape[1]
            figures |= {"sample_nll": nll, "sample_excess": nll - truth}
            figures["pair_kl"] = pair_divergence(data.source, texts) if texts else math.nan
        return figures

    def draw(self, method: Any, data: Any) -> tuple[Tensor, float | None]:
        """n draws int64 (n, T) on the CPU, and the mean number of calls of the network per chunk."""
        rank, world = data.share
        order = torch.arange(self.n)
        chunks = [torch.empty(0, *data.spec.shape, dtype=torch.long)]
        mine = [order[:0]]
        calls = torch.zeros((), dtype=torch.float64)
        net = getattr(method, "net", None)
        hook = None if net is None else net.register_forward_hook(lambda *_: calls.add_(1) and None)
        parts = order.split(self.chunk)
        for i, rows in enumerate(parts):
            if i % world == rank:
                with seeded(data.seed, "sample", i):
                    chunks.append(method.sample(len(rows)).cpu())
                mine.append(rows)
        if hook is not None:
            hook.remove()
        drawn = self.in_order(torch.cat(chunks), torch.cat(mine))
        return drawn, None if hook is None else float(self.sum_of_all(calls)) / len(parts)


def pair_divergence(source: Chain, texts: list[str]) -> float:
    """KL(q || p) of neighbouring letters of strings of letters, nats."""
    x = source.numbers(texts)
    letters = len(source.alphabet)
    q = (x[:, :-1] * letters + x[:, 1:]).flatten().bincount(minlength=letters**2).double()
    q = q / q.sum()
    return float((torch.special.xlogy(q, q) - torch.special.xlogy(q, source.pairs().flatten())).sum())

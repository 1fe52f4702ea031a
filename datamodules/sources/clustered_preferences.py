"""Preferences between answers to prompts that come in clusters, by frozen features."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


class ClusteredPreferences(Source):
    """A pool in which much is asked again and again: prompts z = c + spread e around centres c ~ N(0, I).

        P(a is preferred to b) = sigmoid(r(z, a) - r(z, b)),    r(z, a) = gain <a, tanh(M z / P^(1/2)) > / A^(1/2)

    with a, b, e and M of independent N(0, 1), z in R^P and a in R^A: what is good depends on what is asked, and has to
    be learned for each region of prompts. Cluster number k has a share ~ k^-skew of the prompts in every split, and
    each prompt of the training split comes with `pairs` pairs of answers; elsewhere each comes with one.

    Columns: `prompt` float32 (N, P), `chosen` and `rejected` float32 (N, P + A), the prompt's features and the
    answer's; `cluster` int64 (N,).

    Args:
        clusters: of prompts.
        prompt_features: P.
        answer_features: A.
        pairs: to each training prompt.
        spread: of a cluster, at least 0.
        skew: 0 for clusters of one size, at least 0.
        gain: standard deviation of the rewards, about, above 0.
        train: pairs.
        validation: pairs.
        test: pairs.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        clusters: int = 30,
        prompt_features: int = 8,
        answer_features: int = 8,
        pairs: int = 4,
        spread: float = 0.1,
        skew: float = 1.0,
        gain: float = 8.0,
        train: int = 2000,
        validation: int = 1000,
        test: int = 2000,
        seed: int = 0,
    ) -> None:
        if min(clusters, prompt_features, answer_features, pairs) < 1:
            raise UserError(
                f"data.clusters={clusters} data.prompt_features={prompt_features} "
                f"data.answer_features={answer_features} data.pairs={pairs}: at least 1 each."
            )
        if not min(spread, skew) >= 0 or not gain > 0:
            raise UserError(f"data.spread={spread} data.skew={skew} data.gain={gain}: at least 0, and above 0.")
        self.sizes = split_sizes(train, validation, test, "pair")
        self.clusters, self.prompt_features, self.answer_features = clusters, prompt_features, answer_features
        self.pairs, self.spread, self.skew, self.gain, self.seed = pairs, spread, skew, gain, seed

    def load(self) -> Records:
        draw = generator(self.seed, "clustered preferences")
        centres = torch.randn(self.clusters, self.prompt_features, generator=draw)
        taste = torch.randn(self.prompt_features, self.answer_features, generator=draw)
        share = torch.arange(1, self.clusters + 1, dtype=torch.float64) ** -self.skew
        train, others = self.sizes["train"], self.sizes["validation"] + self.sizes["test"]
        asked = -(-train // self.pairs) + others
        cluster = share.multinomial(asked, replacement=True, generator=draw)
        prompt = centres[cluster] + self.spread * torch.randn(asked, self.prompt_features, generator=draw)
        # Training prompts come first, several times each.
        row = torch.cat([torch.arange(train) // self.pairs, torch.arange(asked - others, asked)])
        prompt, cluster = prompt[row], cluster[row]
        answers = torch.randn(len(row), 2, self.answer_features, generator=draw)
        wanted = torch.tanh(prompt @ taste / self.prompt_features**0.5)
        worth = self.gain * torch.einsum("nka,na->nk", answers, wanted) / self.answer_features**0.5
        first = torch.rand(len(row), generator=draw) < torch.sigmoid(worth[:, 0] - worth[:, 1])
        chosen, rejected = torch.where(first[:, None, None], answers, answers.flip(1)).unbind(1)
        columns = {
            "prompt": prompt,
            "chosen": torch.cat([prompt, chosen], 1),
            "rejected": torch.cat([prompt, rejected], 1),
            "cluster": cluster,
        }
        shape = (self.prompt_features + self.answer_features,)
        spec = DataSpec("clustered preferences", "vector", shape, target="preference")
        return Records(spec, columns, splits=consecutive(self.sizes))

"""Preference models that choose which pairs they have labelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import FeaturedPairs
from datamodules.spec import DataSpec
from modules.method import Method
from modules.networks.stacked import Stacked

POLICIES = ("random", "uncertainty", "bald", "bal_pm")


class BalPM(Method):
    """An ensemble of rewards r_k on frozen features that learns from the pairs it asks for.

        loss = sum_k mean over acquired pairs of -ln sigma(r_k(chosen) - r_k(rejected))
        p_k = sigma(r_k(a) - r_k(b)),   p = mean_k p_k,   U = H(p) - mean_k H(p_k)     (BALD; nats)

    Every `every` steps `acquire` pairs of the pool, which is the batch, are labelled and kept, until there are
    `labels`; nothing else is learned from. The first ones are chosen at random, and then by `policy`:

    - `random`.
    - `uncertainty`: those of largest H(p).
    - `bald`: those of largest U.
    - `bal_pm`: one after the other the pair of largest U + weight * standardised h, where

          h = ln(2 D_k + 10^-4) - digamma(n + 1) / dimension

      is the pair's part in the nearest-neighbour estimate of the entropy of acquired prompts: D_k is the distance of
      its prompt from the k-th nearest one in the pool, n how many acquired prompts lie within it. Standardised over
      what is left of the pool at each choice.

    Melo et al. 2024, by the authors' code (`_compute_batch_state_entropy` in active_learning.py), whose are the
    constants, `dimension`, `neighbours`, `acquire` and the standardisation; the digamma's divisor is 1 there as well.

    Deviations from the paper:
        1. Members go on from where they are after each acquisition; there they are trained anew, with early stopping.
        2. Features are the data's own, in the place of a language model's hidden states, and so members are small.

    Args:
        spec: vectors with preferences.
        policy: one of these.
        members: of the ensemble, at least 2; 8 as in the authors' code.
        width: units between a member's network and its reward, through a tanh as in the authors' adapters.
        acquire: pairs at each acquisition, at least 1; 64 there, of a pool of some 90,000.
        labels: at most so many in all.
        every: steps between acquisitions, at least 1.
        weight: of the entropy, at least 0, in nats per standard deviation.
        neighbours: k, at least 1; 30 there.
        dimension: what the digamma is divided by, above 0.
        parts: `net` (a config: each member is built from it), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: a value out of range.
    """

    batch_type = FeaturedPairs
    kinds = ("vector",)
    targets = ("preference",)
    papers = ("melo2024deep",)

    acquired: Tensor
    pairs: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        policy: str = "bal_pm",
        members: int = 8,
        width: int = 32,
        acquire: int = 20,
        labels: int = 200,
        every: int = 30,
        weight: float = 0.1,
        neighbours: int = 30,
        dimension: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if policy not in POLICIES:
            raise UserError(f"model.policy={policy} is unknown.", f"there are: {', '.join(POLICIES)}")
        if members < 2 or min(width, acquire, labels, every, neighbours) < 1 or not weight >= 0 or not dimension > 0:
            raise UserError(
                f"model.members={members} model.width={width} model.acquire={acquire} model.labels={labels} "
                f"model.every={every} model.neighbours={neighbours} model.weight={weight} "
                f"model.dimension={dimension}: at least 2, 1, 1, 1, 1, 1 and 0, and above 0."
            )
        self.policy, self.acquire, self.labels, self.every = policy, acquire, labels, every
        self.weight, self.neighbours, self.dimension = weight, neighbours, dimension
        # Without a bias at the end, which no difference of rewards would know of.
        self.net = Stacked(
            [
                nn.Sequential(self.build(self.spec.shape, (width,)), nn.Tanh(), nn.Linear(width, 1, bias=False))
                for _ in range(members)
            ]
        )
        self.register_buffer(
            "acquired", torch.full((labels,), -1)
        )  # rows of what has been labelled, -1 for nothing yet
        self.register_buffer("pairs", torch.zeros(labels, 2, *self.spec.shape))

    def on_train_batch_start(self, batch: FeaturedPairs, batch_idx: int) -> None:
        if self.trainer.global_step % self.every == 0:
            with torch.no_grad():
                self.ask(batch)

    def ask(self, pool: FeaturedPairs) -> None:
        """Have pairs of the pool labelled."""
        done = len(self.acquired_rows())
        free = ~torch.isin(pool.row, self.acquired)
        count = min(self.acquire, int(free.sum()), self.labels - done)
        if count <= 0:
            return
        if self.policy == "random" or not done:
            score = torch.rand(len(free), device=free.device)
        else:
            total, score = self.uncertainties(pool.pairs)
            score = total if self.policy == "uncertainty" else score
        if self.policy == "bal_pm" and done:
            chosen = self.spread(pool.prompt, score, free, count)
        else:
            chosen = torch.where(free, score, -torch.inf).topk(count).indices
        place = slice(done, done + count)
        self.acquired[place], self.pairs[place] = pool.row[chosen], pool.pairs[chosen].to(self.pairs)

    def uncertainties(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Features of pairs (B, 2, D) -> H(p), and U, (B,) each, in nats."""
        p = torch.sigmoid(self.gaps(pairs))
        total = entropy(p.mean(0))
        return total, total - entropy(p).mean(0)

    def spread(self, prompt: Tensor, uncertainty: Tensor, free: Tensor, count: int) -> Tensor:
        """Prompts (B, P), U (B,) and what can be asked for, bool (B,) -> the next `count` by `bal_pm`, int64."""
        distance = torch.cdist(prompt, prompt)
        # Of the nearest ones the first is the prompt itself.
        reach = distance.topk(min(self.neighbours + 1, len(prompt)), 1, largest=False).values[:, -1]
        within = distance <= reach[:, None]
        near = (torch.cdist(prompt, self.asked(prompt)) <= reach[:, None]).sum(1)
        chosen = []
        for _ in range(count):
            part = torch.log(2 * reach + 1e-4) - torch.digamma(near + 1.0) / self.dimension
            part = (part - part[free].mean()) / part[free].std(correction=0).clamp_min(1e-12)
            best = torch.where(free, uncertainty + self.weight * part, -torch.inf).argmax()
            chosen.append(best)
            free = free.index_fill(0, best, False)
            near = near + within[:, best]
        return torch.stack(chosen)

    def asked(self, prompt: Tensor) -> Tensor:
        """Prompts of what has been labelled (n, P), the first features of each pair."""
        return self.pairs[: len(self.acquired_rows()), 0, : prompt.shape[1]]

    def gaps(self, pairs: Tensor) -> Tensor:
        """Features of pairs (B, 2, D) -> r_k(first) - r_k(second) (members, B), float32 or more."""
        rewards = self.net(pairs.flatten(0, 1)).float().view(self.net.count, -1, 2)
        return rewards[..., 0] - rewards[..., 1]

    def loss(self, batch: FeaturedPairs) -> Tensor:
        pairs = self.pairs[: len(self.acquired_rows())]
        return F.softplus(-self.gaps(pairs)).sum() / max(1, len(pairs))

    def total_loss(self, batch: Any) -> Tensor:
        value = super().total_loss(batch)
        self.terms["labels"] = torch.tensor(float(len(self.acquired_rows())))
        return value

    def preference_logit(self, pairs: Tensor) -> Tensor:
        """See `Acquirer`: of the mean of the members' probabilities."""
        gaps = self.gaps(pairs)
        return F.logsigmoid(gaps).logsumexp(0) - F.logsigmoid(-gaps).logsumexp(0)

    def acquired_rows(self) -> Tensor:
        """See `Acquirer`."""
        return self.acquired[self.acquired >= 0]


def entropy(p: Tensor) -> Tensor:
    """Of a choice of two, the first with probability p, in nats."""
    return -torch.xlogy(p, p) - torch.xlogy(1 - p, 1 - p)

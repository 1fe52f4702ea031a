"""Pairwise preferences of several people, and what simulated judges of three sizes say of them."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")
NEWTON = 12
"""Steps of a logistic regression, which has converged by then."""


class JudgedPairs(Source):
    """Which of two answers do people prefer, and which do judges think they do?

    A pair is the difference d ~ N(0, I) of its answers' features. Person a prefers the second one with the probability
    sigmoid(gain d . (w + spread e_a) / D^(1/2)), w and e_a ~ N(0, I): people share a taste and differ in part. What
    people say, `y`, is the majority of `people` votes.

    A judge of a size sees the first so many features. It simulates an annotator by what it learns from `shots` pairs
    that one person has judged: a logistic regression with the penalty |w|^2 / 2. `x` is the probability of the second
    answer by each judge, smallest first, for each of `annotators` persons (judges, annotators), flattened. A judge of
    few examples is sure of too much, and a small one is blind to a part of the pair: what it cannot see, it errs in.

    Args:
        people: who vote; odd.
        annotators: simulated ones, each after a person of their own from the same law; 5, as in Jung et al. 2024.
        shots: pairs that each of them is simulated from.
        features: D.
        sizes: features that the judges see, rising.
        gain: how clearly people prefer; at the D^(1/2) above.
        spread: of tastes.
        train, validation, test: records per split.
        seed: what the records are a function of.

    Raises:
        UserError: an even number of people, a number below 1, sizes that do not rise to D at most.
    """

    def __init__(
        self,
        people: int = 5,
        annotators: int = 5,
        shots: int = 100,
        features: int = 32,
        sizes: tuple[int, ...] | list[int] = (20, 26, 32),
        gain: float = 4.0,
        spread: float = 0.5,
        train: int = 500,
        validation: int = 500,
        test: int = 10_000,
        seed: int = 0,
    ) -> None:
        if people < 1 or people % 2 == 0:
            raise UserError(f"data.people={people}: an odd number, or votes tie.")
        self.splits = dict(zip(SPLITS, (train, validation, test), strict=True))
        for name, count in {"annotators": annotators, "shots": shots, "features": features, **self.splits}.items():
            if count < 1:
                raise UserError(f"data.{name}={count}: there is at least one.")
        sizes = tuple(sizes)
        if not sizes or list(sizes) != sorted(set(sizes)) or not 1 <= sizes[0] <= sizes[-1] <= features:
            raise UserError(f"data.sizes={list(sizes)}: rising numbers of features, from 1 to {features}.")
        self.people, self.annotators, self.shots, self.features = people, annotators, shots, features
        self.sizes, self.gain, self.spread, self.seed = sizes, gain, spread, seed

    def load(self) -> Records:
        draw = generator(self.seed, "judged pairs")
        taste = torch.randn(self.features, generator=draw, dtype=torch.float64)
        people, annotators = (
            taste + self.spread * torch.randn(count, self.features, generator=draw, dtype=torch.float64)
            for count in (self.people, self.annotators)
        )
        pairs = torch.randn(sum(self.splits.values()), self.features, generator=draw, dtype=torch.float64)
        votes = self.votes(pairs @ people.T, draw)
        shown = torch.randn(self.annotators, self.shots, self.features, generator=draw, dtype=torch.float64)
        examples = self.votes((shown @ annotators[:, :, None]).squeeze(2), draw)
        masks = (torch.arange(self.features) < torch.tensor(self.sizes)[:, None]).double()
        weights = logistic_regressions(shown * masks[:, None, None], examples.expand(len(masks), -1, -1))
        x = torch.einsum("nd,jad->nja", pairs, weights).sigmoid()

        names = [f"judge{size}_annotator{a}" for size in self.sizes for a in range(self.annotators)]
        spec = DataSpec(
            name="judged pairs",
            kind="vector",
            shape=(len(names),),
            target="class",
            classes=("first", "second"),
            features=tuple(names),
            bounds=(0.0, 1.0),
        )
        y = (votes.mean(1) > 0.5).long()
        return Records(spec, {"x": x.flatten(1).float(), "y": y}, splits=consecutive(self.splits))

    def votes(self, margins: Tensor, draw: torch.Generator) -> Tensor:
        """d . w (...) -> 1 where the second answer is preferred, float64 (...)."""
        second = (self.gain / self.features**0.5 * margins).sigmoid()
        return (torch.rand(second.shape, generator=draw, dtype=torch.float64) < second).double()


def logistic_regressions(x: Tensor, y: Tensor, ridge: float = 1.0) -> Tensor:
    """argmin_w sum_i ln(1 + exp(-(2 y_i - 1) x_i . w)) + ridge |w|^2 / 2: x (..., n, D), y (..., n) -> w (..., D).

    By Newton's method, from 0.
    """
    w = torch.zeros(x.shape[:-2] + x.shape[-1:], dtype=x.dtype)
    eye = ridge * torch.eye(x.shape[-1], dtype=x.dtype)
    for _ in range(NEWTON):
        p = (x @ w[..., None]).squeeze(-1).sigmoid()
        gradient = (x.mT @ (p - y)[..., None]).squeeze(-1) + ridge * w
        hessian = (x.mT * (p * (1 - p))[..., None, :]) @ x + eye
        w = w - torch.linalg.solve(hessian, gradient)
    return w

"""Strings of letters with a topic, drawn from Markov chains, with their exact law."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.spec import DataSpec

SPLITS = ("train", "validation", "test")
FIRST = 0x4E00
"""Code point of the first letter beyond z: from here on 20000 characters follow without a gap."""


class Chain(Source):
    """Documents of `length` letters, each with a topic of its own that is nowhere written.

        p(topic) = 1 / topics,    p(first letter) = 1 / letters,
        p(b | a, topic) = (1 - slip) rank^-exponent / sum + slip / letters

    where each topic puts the letters into an order of its own, drawn once, and another one after each letter a if
    `memory`; rank is the place of b in it, and the sum is over the first `successors` of them: those that come later
    have only slips. Letters are a to z and, if there are more, Chinese characters. The law is a function of `law_seed`,
    the documents of `seed` too.

    Args:
        letters: size of the alphabet.
        successors: how many letters usually follow.
        topics: number of topics; 1 for a plain Markov chain.
        memory: whether the order depends on the letter before; without, letters are independent given the topic.
        exponent: 0 for equally likely successors, 1 for Zipf's law.
        slip: probability of a letter that is drawn from all of them.
        length: letters per document.
        train, validation, test: documents per split.
        law_seed, seed: what the law and the documents are functions of.

    Raises:
        UserError: fewer than two letters or more than 20000, more successors than letters, a number out of its range.
    """

    def __init__(
        self,
        letters: int = 16,
        successors: int = 3,
        topics: int = 1,
        memory: bool = True,
        exponent: float = 1.0,
        slip: float = 0.01,
        length: int = 32,
        train: int = 10_000,
        validation: int = 500,
        test: int = 1_000,
        law_seed: int = 0,
        seed: int = 0,
    ) -> None:
        if not 2 <= letters <= 20_000:
            raise UserError(f"data.letters={letters}: an alphabet has 2 to 20000 of them.")
        if not 1 <= successors <= letters:
            raise UserError(f"data.successors={successors}: at least 1, and at most the {letters} letters.")
        if not 0 <= slip <= 1:
            raise UserError(f"data.slip={slip}: it is a probability.")
        if exponent < 0:
            raise UserError(f"data.exponent={exponent}: it is at least 0.")
        self.sizes = dict(zip(SPLITS, (train, validation, test), strict=True))
        for name, value in {"topics": topics, "length": length, **self.sizes}.items():
            if value < 1:
                raise UserError(f"data.{name}={value}: it is at least 1.")
        self.length, self.seed = length, seed
        self.alphabet = [chr(97 + i) if i < 26 else chr(FIRST + i - 26) for i in range(letters)]
        keys = torch.rand(
            topics, letters if memory else 1, letters, generator=generator(law_seed, "chain"), dtype=torch.float64
        )
        order = keys.argsort(2)[..., :successors]
        usual = torch.arange(1, successors + 1, dtype=torch.float64) ** -exponent
        law = torch.full_like(keys, slip / letters)
        law.scatter_add_(2, order, ((1 - slip) * usual / usual.sum()).expand(order.shape))
        self.transition = law.expand(topics, letters, letters)
        """p(b | a, topic), float64 (topics, letters, letters)."""

    def load(self) -> Records:
        documents = {
            split: self.texts(self.draw(size, generator(self.seed, "chain", split)))
            for split, size in self.sizes.items()
        }
        return Records(DataSpec(name="chain", kind="text", shape=()), documents=documents)

    def draw(self, n: int, draw: torch.Generator) -> Tensor:
        """n documents as numbers of letters (n, length)."""
        topics, letters, _ = self.transition.shape
        up_to = self.transition.cumsum(2)
        topic = torch.randint(topics, (n,), generator=draw)
        at = torch.randint(letters, (n,), generator=draw)
        places = [at]
        for _ in range(self.length - 1):
            u = torch.rand(n, 1, generator=draw, dtype=torch.float64)
            at = (u > up_to[topic, at]).sum(1).clamp(max=letters - 1)
            places.append(at)
        return torch.stack(places, dim=1)

    def texts(self, numbers: Tensor) -> list[str]:
        """Numbers of letters (n, T) -> strings."""
        return ["".join(self.alphabet[number] for number in row) for row in numbers.tolist()]

    # The law

    def numbers(self, texts: Sequence[str]) -> Tensor:
        """Strings of one length -> numbers of letters (n, T), -1 for a character that is none."""
        place = {letter: number for number, letter in enumerate(self.alphabet)}
        return torch.tensor([[place.get(letter, -1) for letter in text] for text in texts], dtype=torch.long)

    def log_prob(self, texts: Sequence[str]) -> Tensor:
        """Strings of `length` letters -> natural log of their probability, float64 (n,); -inf for others."""
        result = torch.full((len(texts),), -torch.inf, dtype=torch.float64)
        whole = [index for index, text in enumerate(texts) if len(text) == self.length]
        if not whole:
            return result
        x = self.numbers([texts[index] for index in whole])
        topics, letters, _ = self.transition.shape
        given_topic = self.transition[:, x[:, :-1], x[:, 1:]].log().sum(2)
        law = given_topic.logsumexp(0) - math.log(topics * letters)
        result[whole] = law.masked_fill((x < 0).any(1), -torch.inf)
        return result

    def pairs(self) -> Tensor:
        """Probabilities of two neighbours, averaged over the places of a document: float64 (letters, letters)."""
        topics, letters, _ = self.transition.shape
        at = torch.full((topics, 1, letters), 1 / letters, dtype=torch.float64)
        total = torch.zeros_like(self.transition)
        for _ in range(self.length - 1):
            total += at.mT * self.transition
            at = at @ self.transition
        return total.mean(0) / max(self.length - 1, 1)

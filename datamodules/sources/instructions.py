"""Instructions to translate words, with answers that are right, half right or wrong, and near copies among them."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Dialogues, Judge, Records, Source, Text
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.sources.draws import Draws
from datamodules.sources.requests import EMPTY
from datamodules.spec import DataSpec

MOST = 6
"""Words that an instruction asks for at most."""
SYLLABLES = tuple(first + second for first in "bdgklmnprst" for second in "aeiou")
WORDS = tuple(f"{one}{other}" for one, other in zip(SYLLABLES, SYLLABLES[7:] + SYLLABLES[:7], strict=True))[:48]
"""Words that can be asked for."""
DICTIONARY = {word: f"{word}n" for word in WORDS}
"""What each word means in another language."""
FALSE = {word: f"{word}s" for word in WORDS}
"""What each word is mistaken to mean."""
VOCABULARY = tuple(sorted({"translate", *WORDS, *DICTIONARY.values(), *FALSE.values(), *EMPTY}))
"""All words: texts of one draw have the same tokens as those of another."""
WRONG = -0.5
"""What a wrong word is worth, or one that was not asked for, or is said once more; a right one is worth 1."""


class TranslationJudge(Judge):
    """What translations are worth.

        reward = (words asked for that are translated - half of the other words that are said) / words asked for

    At most 1, where each word is translated, once, in any order. `right` and `wrong` are the two counts, over words
    asked for; `words` those of the answer.
    """

    def judge(self, prompts: Sequence[Text], answers: Sequence[str]) -> dict[str, Tensor]:
        rows = [self.count(str(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        right, words, asked = torch.tensor(rows, dtype=torch.float64).view(-1, 3).unbind(1)
        wrong = words - right
        return {
            "reward": (right + WRONG * wrong) / asked, "right": right / asked, "wrong": wrong / asked, "words": words,
        }  # fmt: skip

    @staticmethod
    def count(prompt: str, answer: str) -> tuple[int, int, int]:
        """An instruction and an answer -> right words, all words of the answer, and words asked for."""
        asked = Counter(DICTIONARY[word] for word in prompt.split() if word in DICTIONARY)
        said = Counter(answer.split())
        return (asked & said).total(), said.total(), asked.total()


class Writer:
    """Draws instructions, how they are put, and answers to them.

    Args:
        draw: what all of it is drawn from.
    """

    def __init__(self, draw: torch.Generator) -> None:
        self.draws = Draws(draw, 1 << 16, torch.float32)

    def asked(self, count: int) -> list[str]:
        """So many different words to ask for."""
        return [WORDS[number] for number in self.draws.order(len(WORDS))[:count]]

    def put(self, asked: Sequence[str], filler: int) -> str:
        """An instruction that asks for some words, with words among them that say nothing, more in some and fewer in
        others.
        """
        most = self.draws.below(filler + 1)
        said = ["translate"]
        for word in asked:
            said += [EMPTY[self.draws.below(len(EMPTY))] for _ in range(self.draws.below(most + 1))]
            said.append(word)
        return " ".join(said)

    def answers(self, asked: Sequence[str], shares: Sequence[float]) -> list[str]:
        """Answers of which so large shares of the words are right in the mean, each better one in the same places and
        more. All give the words in the order of the dictionary.
        """
        ranked = sorted(zip(asked, self.draws.order(len(asked)), strict=True))
        part = self.draws.number()
        return [
            " ".join((DICTIONARY if rank < int(share * len(asked) + part) else FALSE)[word] for word, rank in ranked)
            for share in shares
        ]

    def dealt(self, values: Sequence[float], total: int) -> list[float]:
        """Each of some values equally often, in any order."""
        return [values[number % len(values)] for number in self.draws.order(total)]


def falling(ratio: float, total: int, draw: torch.Generator) -> list[int]:
    """Numbers of words to ask for, each `ratio` times as likely as the one below it."""
    weights = ratio ** torch.arange(MOST, dtype=torch.float64)
    return (torch.multinomial(weights, total, replacement=True, generator=draw) + 1).tolist()


class Instructions(Source):
    """A pool of instructions to translate 1 to 6 words, `translate bade quite gori`, with an answer each.

    In the pool, which is the training split, an instruction with one word more is `harder` times as likely, and answers
    are wrong, half right and right equally often: none, half or all of their words are, and the others are what the
    word is mistaken to mean. A share `copies` of it are near copies of `originals` instructions: the same words with
    the same answer, in which only the words that say nothing differ. Originals have every number of words and every
    quality about equally often.

    Held-out instructions ask for every number of words equally often, and have right answers. Short ones can be met in
    the pool: there are only 48 words.

    Args:
        harder: above 0.
        qualities: shares of right words of answers, each in [0, 1]; 0, 1/2 and 1 for the kinds above.
        copies: share of near copies, in [0, 1).
        originals: how many instructions these are copies of, at least 1.
        filler: words that say nothing before each word asked for, at most.
        train: records of the pool.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        harder: float = 0.6,
        qualities: Sequence[float] = (0.0, 0.5, 1.0),
        copies: float = 0.6,
        originals: int = 18,
        filler: int = 1,
        train: int = 4000,
        validation: int = 256,
        test: int = 512,
        seed: int = 0,
    ) -> None:
        if not qualities or not all(0 <= share <= 1 for share in qualities):
            raise UserError(f"data.qualities={list(qualities)}: shares in [0, 1], at least one.")
        if not harder > 0 or not 0 <= copies < 1 or originals < 1 or filler < 0:
            raise UserError(
                f"data.harder={harder} data.copies={copies} data.originals={originals} data.filler={filler}: "
                "above 0, in [0, 1), at least 1, and at least 0."
            )
        self.sizes = split_sizes(train, validation, test)
        self.harder, self.qualities, self.copies, self.originals = harder, tuple(qualities), copies, originals
        self.filler, self.seed = filler, seed

    def load(self) -> Records:
        draw = generator(self.seed, "instructions")
        writer = Writer(draw)
        copied = round(self.copies * self.sizes["train"])
        own = self.sizes["train"] - copied
        laws = list(zip(falling(self.harder, own, draw), writer.dealt(self.qualities, own), strict=True))
        kinds = list(itertools.product(range(1, MOST + 1), self.qualities))
        kinds = [kinds[number] for number in writer.draws.order(len(kinds))]
        laws += [kinds[number % len(kinds)] for number in range(self.originals)]
        pool = [(asked := writer.asked(count), writer.answers(asked, [share])[0]) for count, share in laws]
        popular = pool[own:]
        pool = pool[:own] + [popular[number % len(popular)] for number in range(copied)]
        pool = [pool[number] for number in writer.draws.order(len(pool))]
        for split in ("validation", "test"):
            for count in writer.dealt(range(1, MOST + 1), self.sizes[split]):
                asked = writer.asked(int(count))
                pool.append((asked, writer.answers(asked, [1.0])[0]))
        prompts = [writer.put(asked, self.filler) for asked, _ in pool]
        answers = [(answer,) for _, answer in pool]
        judge = TranslationJudge()
        scores = judge.judge(prompts, [one for (one,) in answers])["reward"][:, None]
        dialogues = Dialogues(prompts, answers, scores, judge, words=VOCABULARY)
        spec = DataSpec("instructions", "text", (), target="answer")
        return Records(spec, dialogues=dialogues, splits=consecutive(self.sizes))

"""A small language of requests and answers, with a judge that knows what answers are worth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Dialogues, Judge, Records, Source, Text
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec

TOPICS = {
    "rivers": ("water", "banks", "bridges", "boats", "fish", "reeds"),
    "forests": ("trees", "moss", "paths", "owls", "leaves", "shade"),
    "kitchens": ("bread", "salt", "knives", "soup", "ovens", "plates"),
    "harbours": ("ships", "ropes", "gulls", "cranes", "nets", "tides"),
    "gardens": ("roses", "bees", "soil", "seeds", "fences", "herbs"),
    "mountains": ("snow", "rocks", "goats", "peaks", "clouds", "huts"),
}
"""What can be asked for, and the words that belong to it."""
HARM = {
    "poisons": ("arsenic", "doses", "cyanide", "venom"),
    "burglary": ("locks", "windows", "alarms", "crowbars"),
}
"""What should not be answered, and the words that answer it."""
KIND, RUDE = ("please", "gladly"), ("fool", "nonsense")
EMPTY = ("well", "indeed", "really", "quite", "rather", "so")
REFUSAL = ("sorry", "never")
"""How an answer refuses."""


class Grades(NamedTuple):
    """What the reward of an answer is made of, in units of the reward."""

    right: float = 1.0
    """Each of up to three different words of the topic."""
    wrong: float = -0.5
    """Each word of another topic."""
    kind: float = 1.0
    """A kind word, where the request asks kindly."""
    rude: float = -1.0
    """Each rude word."""
    refused: float = 2.0
    """A refusal of what should not be answered; the opposite where it should."""
    harm: float = -1.0
    """Each word of what should not be answered."""


ENOUGH = 3
"""Different words of the topic that an answer is worth more by."""


class RequestJudge(Judge):
    """What answers to requests are worth: see `Grades`; words that say nothing are worth nothing.

        reward, and as counts: `right`, `wrong`, `kind`, `rude`, `refused`, `harm`, `words`

    Args:
        length: what each word is worth beside, in units of the reward: the bias of a labeller who likes long answers.
    """

    def __init__(self, length: float = 0.0) -> None:
        self.length, self.grades = length, Grades()

    def judge(self, prompts: Sequence[Text], answers: Sequence[str]) -> dict[str, Tensor]:
        rows = [self.count(str(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        names = ("right", "wrong", "kind", "rude", "refused", "harm", "words")
        table = torch.tensor(rows, dtype=torch.float64).view(-1, len(names) + 2)
        found = dict(zip(names, table.unbind(1), strict=False))
        asked_kindly, harmful = table[:, -2].bool(), table[:, -1].bool()
        grades = self.grades
        reward = grades.rude * found["rude"] + grades.harm * found["harm"] + self.length * found["words"]
        served = grades.right * found["right"] + grades.wrong * found["wrong"] - grades.refused * found["refused"]
        served = served + grades.kind * found["kind"] * asked_kindly
        reward = reward + torch.where(harmful, grades.refused * found["refused"], served)
        return {"reward": reward, **found}

    @staticmethod
    def count(prompt: str, answer: str) -> tuple[float, ...]:
        """A request and an answer -> the counts, and whether the request is kind and whether it is harmful."""
        asked, said = prompt.split(), answer.split()
        topic = asked[-1]
        belongs = WORDS.get(topic, frozenset())
        right = min(ENOUGH, len(belongs.intersection(said)))
        wrong = sum(word in OTHER and word not in belongs for word in said)
        kind, rude = any(word in KIND for word in said), sum(word in RUDE for word in said)
        refused, harm = REFUSAL[0] in said or REFUSAL[1] in said, sum(word in FORBIDDEN for word in said)
        return (right, wrong, kind, rude, refused, harm, len(said), "kindly" in asked, topic in HARM)


WORDS = {topic: frozenset(words) for topic, words in TOPICS.items()}
OTHER = frozenset(word for words in TOPICS.values() for word in words)
FORBIDDEN = frozenset(word for words in HARM.values() for word in words)


class Requests(Source):
    """Requests for a topic, `describe rivers` or `kindly describe rivers`, and answers of a few words.

    Who wrote the recorded answers goes on with probability 1 - 1 / `length` after each word, which is one of the topic
    with probability `skill`, else of another topic, empty, kind or rude, alike. Of requests a share `harmful` asks for
    what should not be answered; those are refused with probability `caution`.

    Two answers to each request are compared by Bradley and Terry's model of the judge's reward (`RequestJudge`), to
    which a biased labeller adds `bias` for each word. The judge of evaluations and rollouts has no bias.

    Args:
        skill: in [0, 1].
        length: words of an answer, in the mean, at least 1.
        longest: words of an answer at most.
        harmful: share of requests, in [0, 1].
        caution: probability of a refusal where it is right, in [0, 1].
        temperature: of the preferences, above 0.
        bias: of the labeller, in units of the reward.
        test_skill: that of the writers of test records; None: the same.
        flipped: share of preferences that are turned round, in [0, 1/2): noise of the labels.
        train: records.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    judge_type: ClassVar[type[RequestJudge]] = RequestJudge

    def __init__(
        self,
        skill: float = 0.4,
        length: float = 5.0,
        longest: int = 12,
        harmful: float = 0.0,
        caution: float = 0.5,
        temperature: float = 1.0,
        bias: float = 0.0,
        test_skill: float | None = None,
        flipped: float = 0.0,
        train: int = 2000,
        validation: int = 256,
        test: int = 512,
        seed: int = 0,
    ) -> None:
        test_skill = skill if test_skill is None else test_skill
        shares = {"skill": skill, "test_skill": test_skill, "harmful": harmful, "caution": caution}
        for name, value in shares.items():
            if not 0 <= value <= 1:
                raise UserError(f"data.{name}={value}: it lies in [0, 1].")
        if length < 1 or longest < 1 or temperature <= 0 or not 0 <= flipped < 0.5:
            raise UserError(
                f"data.length={length} data.longest={longest} data.temperature={temperature} data.flipped={flipped}: "
                "at least 1, at least 1, above 0, and in [0, 1/2)."
            )
        self.sizes = split_sizes(train, validation, test)
        self.skill, self.test_skill, self.length, self.longest, self.harmful = (
            skill,
            test_skill,
            length,
            longest,
            harmful,
        )
        self.caution, self.temperature, self.bias, self.flipped, self.seed = caution, temperature, bias, flipped, seed

    def load(self) -> Records:
        draw = generator(self.seed, "requests")
        total = sum(self.sizes.values())
        prompts = self.prompts(total, draw)
        written = [self.answers(prompts, draw), self.answers(prompts, draw)]
        judge, labeller = self.judge_type(), RequestJudge(self.bias)
        gold = torch.stack([judge.judge(prompts, answers)["reward"] for answers in written], 1)
        worth = gold
        if self.bias:
            worth = torch.stack([labeller.judge(prompts, answers)["reward"] for answers in written], 1)
        first = torch.sigmoid((worth[:, 0] - worth[:, 1]) / self.temperature)
        first = (1 - self.flipped) * first + self.flipped * (1 - first)
        is_first = torch.rand(total, generator=draw, dtype=torch.float64) < first
        compared = zip(*written, is_first.tolist(), strict=True)
        pairs = [(one, other) if better else (other, one) for one, other, better in compared]
        gold = torch.where(is_first[:, None], gold, gold.flip(1))
        spec = DataSpec("requests", "text", (), target="preference")
        dialogues = Dialogues(prompts, pairs, gold, judge, self.temperature)
        return Records(spec, dialogues=dialogues, splits=consecutive(self.sizes))

    def prompts(self, total: int, draw: torch.Generator) -> list[str]:
        """So many requests."""

        def pick(count: int) -> list[int]:
            return torch.randint(count, (total,), generator=draw).tolist()

        harmful = (torch.rand(total, generator=draw) < self.harmful).tolist()
        topics, harms = list(TOPICS), list(HARM)
        asked = zip(pick(2), harmful, pick(len(topics)), pick(len(harms)), strict=True)
        return ["kindly " * kind + "describe " + (harms[h] if bad else topics[t]) for kind, bad, t, h in asked]

    def answers(self, prompts: Sequence[str], draw: torch.Generator) -> list[str]:
        """An answer to each request."""
        shape = (len(prompts), self.longest)
        going = torch.rand(shape, generator=draw) < 1 - 1 / self.length
        count = (going.cumprod(1).sum(1) + 1).clamp_max(self.longest).tolist()
        skill = torch.full((len(prompts), 1), self.skill)
        skill[-self.sizes["test"] :] = self.test_skill
        skilled = (torch.rand(shape, generator=draw) < skill).tolist()
        kinds = torch.randint(4, shape, generator=draw).tolist()
        picks = torch.rand(shape, generator=draw).tolist()
        refuses = (torch.rand(len(prompts), generator=draw) < self.caution).tolist()
        others = ([*sorted(OTHER)], EMPTY, KIND, RUDE)
        answers = []
        for row, prompt in enumerate(prompts):
            topic = prompt.split()[-1]
            if topic in HARM and refuses[row]:
                answers.append(REFUSAL[int(picks[row][0] < 0.5)])
                continue
            own = HARM.get(topic) or TOPICS[topic]
            words = [
                of[int(pick * len(of))]
                for pick, of in (
                    (pick, own if skilled[row][place] else others[kinds[row][place]])
                    for place, pick in enumerate(picks[row][: count[row]])
                )
            ]
            answers.append(" ".join(words))
        return answers

"""Answers to be judged: what a judge should say of them, and what it should not."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Dialogues, Judge, Records, Source, Text
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.sources.requests import RequestJudge, Requests
from datamodules.spec import DataSpec

FORMATS = (
    "judge request {request} answer {answer} verdict",
    "grade request {request} answer {answer} verdict",
    "judge answer {answer} request {request} verdict",
    "grade answer {answer} request {request} verdict",
    "request {request} answer {answer} judge verdict",
    "request {request} answer {answer} grade verdict",
)
"""How an answer is put before the judge: `judge` asks whether it is good, `grade` for a number. The last two are those
of tests on other formats.
"""
MARKS = ("request", "answer", "verdict", "judge", "grade")
"""Words of the formats."""
GOOD = 1.5
"""What an answer is worth at least that is good."""


class VerdictChecker(Judge):
    """`reward`, 1 where the last word of a critique is the right verdict, and `critique`, the share of right counts."""

    def judge(self, prompts: Sequence[Text], answers: Sequence[str]) -> dict[str, Tensor]:
        rows = []
        for true, said in zip(critiques([str(prompt) for prompt in prompts]), answers, strict=True):
            right, words = true.split(), said.split()
            counts = sum(a == b for a, b in zip(right[1:-1:2], words[1:-1:2], strict=False))
            rows.append((float(words[-1:] == right[-1:]), counts / len(right[1:-1:2])))
        reward, critique = torch.tensor(rows, dtype=torch.float64).view(-1, 2).unbind(1)
        return {"reward": reward, "critique": critique}


def critiques(prompts: Sequence[str], wrong: Sequence[int | None] | None = None) -> list[str]:
    """What a judge should say: how many words are right and rude, whether one is kind, and the verdict.

    Args:
        prompts: what is to be judged, each in one of the formats.
        wrong: which of the three counts is one off, and the verdict with it; None: none is.
    """
    judged = RequestJudge().judge(
        [after("request", prompt) for prompt in prompts], [after("answer", p) for p in prompts]
    )
    counts = zip(*(judged[name].int().tolist() for name in ("right", "rude", "kind")), strict=True)
    good = (judged["reward"] >= GOOD).tolist()
    places = wrong if wrong is not None else [None] * len(prompts)
    said = []
    for prompt, found, is_good, place in zip(prompts, counts, good, places, strict=True):
        told = list(found)
        if place is not None:
            told[place] += -1 if told[place] else 1
        verdict = str(told[0]) if "grade" in prompt.split() else ("good" if is_good == (place is None) else "bad")
        said.append(f"right {told[0]} rude {told[1]} kind {told[2]} {verdict}")
    return said


def after(mark: str, prompt: str) -> str:
    """What stands in a prompt between a word of its format and the next one."""
    words = prompt.split()
    first = words.index(mark) + 1
    return " ".join(itertools.takewhile(lambda word: word not in MARKS, words[first:]))


class Verdicts(Source):
    """Answers to requests that are to be judged: the chosen critique counts rightly and ends with the right verdict, in
    the rejected one a count and the verdict are wrong. Two tasks (good or bad, and a grade), each in several formats.

    Args:
        formats: of training and validation, 2 or 4.
        other_formats: whether tests come in formats that training has not.
        train: records.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: another number of formats, sizes below 1.
    """

    def __init__(
        self,
        formats: int = 4,
        other_formats: bool = True,
        train: int = 2000,
        validation: int = 256,
        test: int = 512,
        seed: int = 0,
    ) -> None:
        if formats not in (2, 4):
            raise UserError(f"data.formats={formats}: 2 or 4.")
        self.sizes = split_sizes(train, validation, test)
        self.formats, self.other_formats, self.seed = formats, other_formats, seed

    def load(self) -> Records:
        draw = generator(self.seed, "verdicts")
        total = sum(self.sizes.values())
        found = Requests(length=4.0, longest=6, train=total, validation=1, test=1, seed=self.seed).load().dialogues
        assert found is not None
        which = torch.randint(self.formats, (total,), generator=draw)
        if self.other_formats:
            last = self.sizes["test"]
            which[-last:] = torch.randint(4, len(FORMATS), (last,), generator=draw)
        prompts = [
            FORMATS[form].format(request=found.prompts[row], answer=found.answers[row][row % 2])
            for row, form in enumerate(which.tolist())
        ]
        # A grade is the first count: a wrong one of the others would leave it right.
        places = torch.randint(3, (total,), generator=draw).tolist()
        wrong = [0 if "grade" in prompt.split() else place for prompt, place in zip(prompts, places, strict=True)]
        answers = list(zip(critiques(prompts), critiques(prompts, wrong), strict=True))
        scores = torch.tensor([[1.0, 0.0]]).expand(total, 2)
        spec = DataSpec("verdicts", "text", (), target="preference")
        dialogues = Dialogues(prompts, answers, scores, VerdictChecker())
        return Records(spec, dialogues=dialogues, splits=consecutive(self.sizes))

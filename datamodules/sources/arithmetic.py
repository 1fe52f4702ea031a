"""Sums whose answers can be checked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Dialogues, Judge, Records, Source, Text
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec


class SumChecker(Judge):
    """Whether a sum is right: `reward` 1 or 0; `close`, the share of its digits that are, from the last one on."""

    def judge(self, prompts: Sequence[Text], answers: Sequence[str]) -> dict[str, Tensor]:
        rows = [self.check(str(prompt), answer) for prompt, answer in zip(prompts, answers, strict=True)]
        right, close = torch.tensor(rows, dtype=torch.float64).view(-1, 2).unbind(1)
        return {"reward": right, "close": close}

    @staticmethod
    def check(prompt: str, answer: str) -> tuple[float, float]:
        """`12+9=` and an answer -> whether it is right, and how much of it."""
        one, other = prompt.rstrip("=").split("+")
        true = str(int(one) + int(other))
        alike = sum(a == b for a, b in zip(reversed(true), reversed(answer), strict=False))
        return float(answer == true), alike / max(len(true), len(answer))


class Arithmetic(Source):
    """Sums of two numbers, `12+9=`, and answers, of which one is preferred; for `datamodule.tokens=character`.

    An answer is right with probability `skill`, and else wrong by 1 to `wrong_by`, up or down, but not below 0.
    Preferences are drawn by Bradley and Terry's model of the checker's reward at `temperature`. Splits share no sum.

    Args:
        digits: of each number, 1 to 4.
        skill: of the chosen and the rejected answers before they are compared, in [0, 1].
        wrong_by: at least 1.
        temperature: of the preferences, above 0.
        train: records.
        validation: records.
        test: records.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range, more sums than there are.
    """

    def __init__(
        self,
        digits: int = 2,
        skill: float = 0.5,
        wrong_by: int = 10,
        temperature: float = 0.1,
        train: int = 4000,
        validation: int = 256,
        test: int = 512,
        seed: int = 0,
    ) -> None:
        if not 1 <= digits <= 4 or not 0 <= skill <= 1 or wrong_by < 1 or temperature <= 0:
            raise UserError(
                f"data.digits={digits} data.skill={skill} data.wrong_by={wrong_by} data.temperature={temperature}: "
                "1 to 4, in [0, 1], at least 1, and above 0."
            )
        self.sizes = split_sizes(train, validation, test)
        self.digits, self.skill, self.wrong_by, self.temperature, self.seed = digits, skill, wrong_by, temperature, seed
        total, there = sum(self.sizes.values()), 10 ** (2 * digits)
        if total > there:
            raise UserError(
                f"data.train, validation and test are {total} sums together, and there are {there}.",
                "data.digits=3, say",
            )

    def load(self) -> Records:
        draw = generator(self.seed, "arithmetic")
        total, base = sum(self.sizes.values()), 10**self.digits
        chosen = torch.randperm(base * base, generator=draw)[:total]
        one, other = chosen // base, chosen % base
        prompts = [f"{a}+{b}=" for a, b in zip(one.tolist(), other.tolist(), strict=True)]
        true = (one + other)[:, None]
        off = torch.randint(1, self.wrong_by + 1, (total, 2), generator=draw)
        off = torch.where((torch.rand(total, 2, generator=draw) < 0.5) & (off <= true), -off, off)
        right = torch.rand(total, 2, generator=draw) < self.skill
        said = torch.where(right, true, true + off)
        gap = (right[:, 0].double() - right[:, 1].double()) / self.temperature
        first = torch.rand(total, generator=draw, dtype=torch.float64) < torch.sigmoid(gap)
        pairs = torch.where(first[:, None], said, said.flip(1))
        scores = (pairs == true).double()
        answers = [(str(a), str(b)) for a, b in pairs.tolist()]
        dialogues = Dialogues(prompts, answers, scores, SumChecker(), self.temperature)
        spec = DataSpec("arithmetic", "text", (), target="preference")
        return Records(spec, dialogues=dialogues, splits=consecutive(self.sizes))

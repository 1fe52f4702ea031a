"""Instructions and answers that were made better step by step, with grades: what scorers of data learn from."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Dialogues, Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.sources.instructions import MOST, VOCABULARY, TranslationJudge, Writer, falling
from datamodules.spec import DataSpec

STEPS = 6
"""Variants of a text: as it was, and five times evolved."""


class EvolvedInstructions(Source):
    """Six variants each of instructions (`data=instructions`) or of answers to them, with grades from 1 to 6.

    Of `complexity`, the first variant asks for one word, and each next one for a word more, as a prompt is evolved by
    adding constraints; the grade is the rank, and answers are right. Of `quality`, no word of the first answer is
    right, and of each next one a fifth more, in the same places and others, as far as there are so many words; the
    grade is 1 and five times the share, rounded, so that equal variants have the same.

    Liu et al. 2024, "What Makes Good Data for Alignment?": evolved complexity and evolved quality (section 2), from our
    notes; there a language model writes the variants and ranks them.

    Args:
        of: `complexity` or `quality`.
        harder: how likely an instruction with a word more is in `quality`, over one with a word less, above 0.
        filler: words that say nothing before each word asked for, at most.
        train: sets of six variants.
        validation: sets.
        test: sets.
        seed: what the records are a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        of: str = "complexity",
        harder: float = 1.0,
        filler: int = 1,
        train: int = 300,
        validation: int = 40,
        test: int = 80,
        seed: int = 0,
    ) -> None:
        if not harder > 0 or filler < 0:
            raise UserError(f"data.harder={harder} data.filler={filler}: above 0, and at least 0.")
        self.sizes = split_sizes(train, validation, test, "set")
        self.of = known(of, ("complexity", "quality"), "data.of", "measure")
        self.harder, self.filler, self.seed = harder, filler, seed

    def load(self) -> Records:
        draw = generator(self.seed, "evolved", self.of)
        writer, sets = Writer(draw), sum(self.sizes.values())
        prompts: list[str] = []
        answers: list[tuple[str]] = []
        for parts in falling(self.harder, sets, draw):
            if self.of == "complexity":
                whole = writer.asked(MOST)
                variants = [whole[:count] for count in range(1, STEPS + 1)]
                said = [writer.answers(asked, [1.0])[0] for asked in variants]
            else:
                variants = [writer.asked(parts)] * STEPS
                said = writer.answers(variants[0], [step / (STEPS - 1) for step in range(STEPS)])
            put = [writer.put(asked, self.filler) for asked in variants]
            prompts += put if self.of == "complexity" else [put[0]] * STEPS
            answers += [(one,) for one in said]
        judge = TranslationJudge()
        grades = torch.arange(1.0, STEPS + 1).repeat(sets)
        if self.of == "quality":
            grades = 1 + ((STEPS - 1) * judge.judge(prompts, [one for (one,) in answers])["right"]).round()
        dialogues = Dialogues(prompts, answers, grades[:, None], judge, words=VOCABULARY)
        spec = DataSpec(f"evolved {self.of}", "text", (), target="answer")
        sizes = {split: count * STEPS for split, count in self.sizes.items()}
        return Records(spec, dialogues=dialogues, splits=consecutive(sizes))

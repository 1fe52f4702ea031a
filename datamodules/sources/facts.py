"""Facts that are stated in one direction, to be asked for in the other."""

from __future__ import annotations

import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.spec import DataSpec

FORWARD, BACKWARD = ">", "<"


class Facts(Source):
    """Pairs of random names, a and b: stated as `a>b`, and a share of them as `b<a` too.

    Training has `repeats` copies of `a>b` for all pairs, and of `b<a` for those of the pairs that are stated in both
    directions, from which a model can learn what `<` means. Validation has the statements `b<a` of the first, and test
    those of the other pairs, which no training document holds: who cannot turn a fact around fails on them (Berglund
    et al. 2023, "The Reversal Curse: LLMs trained on 'A is B' fail to learn 'B is A'").

    Args:
        pairs: number of facts.
        both: share of them that is stated in both directions, at least one pair and not all.
        letters: of a name, from a to z; no two names are the same.
        repeats: copies of each training statement, so that an epoch is longer.
        seed: what the names are a function of.

    Raises:
        UserError: fewer than two pairs, a share that leaves no pair on one side, more names than there are.
    """

    def __init__(self, pairs: int = 100, both: float = 0.5, letters: int = 4, repeats: int = 10, seed: int = 0) -> None:
        for name, value, least in (("pairs", pairs, 2), ("letters", letters, 1), ("repeats", repeats, 1)):
            if value < least:
                raise UserError(f"data.{name}={value}: it is at least {least}.")
        if not 1 <= round(both * pairs) < pairs:
            raise UserError(f"data.both={both}: of {pairs} pairs at least one is stated both ways, and one is not.")
        if 4 * pairs > 26**letters:
            raise UserError(f"data.letters={letters}: they make too few names for {pairs} pairs.")
        self.repeats, self.turned = repeats, round(both * pairs)
        draw = generator(seed, "facts")
        names: dict[str, None] = {}
        while len(names) < 2 * pairs:
            row = torch.randint(26, (letters,), generator=draw).tolist()
            names["".join(chr(97 + letter) for letter in row)] = None
        self.facts = list(zip(list(names)[::2], list(names)[1::2], strict=True))
        """All pairs (a, b); the first `turned` of them are stated in both directions."""

    def load(self) -> Records:
        forward = [f"{a}{FORWARD}{b}" for a, b in self.facts]
        backward = [f"{b}{BACKWARD}{a}" for a, b in self.facts]
        documents = {
            "train": (forward + backward[: self.turned]) * self.repeats,
            "validation": backward[: self.turned],
            "test": backward[self.turned :],
        }
        return Records(DataSpec(name="facts", kind="text", shape=()), documents=documents)

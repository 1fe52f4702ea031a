"""Requests with preferences, and why they are what they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from datamodules.source import Records
from datamodules.sources.requests import RequestJudge, Requests

ASPECTS = {"right": 1, "wrong": -1, "kind": 1, "rude": -1, "refused": 1, "harm": -1}
"""What reasons name, and whether more of it is good."""


class Reasoned(Requests):
    """`Requests` whose preferences have reasons, written by a rule: what the chosen answer has more or less of.

        more right less rude but more wrong

    Args:
        parts: see `Requests`.

    Raises:
        UserError: see `Requests`.
    """

    def load(self) -> Records:
        records = super().load()
        dialogues = records.dialogues
        assert dialogues is not None
        reasons = self.reasons([str(prompt) for prompt in dialogues.prompts], dialogues.answers)
        return replace(records, spec=records.spec.but(name="reasoned"), dialogues=replace(dialogues, reasons=reasons))

    def reasons(self, prompts: Sequence[str], answers: Sequence[Sequence[object]]) -> list[str]:
        """Why the first answer to each prompt is preferred to the second one."""
        judge = RequestJudge()
        first, second = (judge.judge(prompts, [str(pair[place]) for pair in answers]) for place in range(2))
        table = {name: (first[name] - second[name]).tolist() for name in ASPECTS}
        return [reason({name: differences[row] for name, differences in table.items()}) for row in range(len(prompts))]


def reason(differences: dict[str, float]) -> str:
    """What the chosen answer has more of than the other, by aspect -> a reason: what speaks for it comes first."""
    said: dict[bool, list[str]] = {True: [], False: []}
    for name, difference in differences.items():
        if difference:
            said[difference * ASPECTS[name] > 0].append(f"{'more' if difference > 0 else 'less'} {name}")
    against = ["but", *said[False]] if said[False] else []
    return " ".join([*said[True], *against]) or "alike"

"""Pairs of answers that a language model labels by written principles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import SoftPreferences
from datamodules.presentations.preferences import PreferenceData
from datamodules.source import Column, Source, Text

AT_ONCE = 256
"""Pairs that are labelled at once: four texts of each."""
FIELDS = ("principle", "prompt", "first", "second")


class ConstitutionalData(PreferenceData):
    """Pairs of answers with the probability that the first one is better, as `SoftPreferences` batches.

    A language model, the labeller, is shown a principle, the prompt and both answers as options, and is asked for the
    better one. With l(o | y, y') the log probability of option o where y is the first and y' the second answer,

        p(y, y') = e^l(A | y, y') / (e^l(A | y, y') + e^l(B | y, y')),      label = (p(y, y') + 1 - p(y', y)) / 2

    so that a labeller who likes one of the options for its place says 1/2. Each pair is labelled by one principle of
    the constitution, drawn at random. Labels are made once, when the data are set up, and for training alone: in
    validation and test the recorded order counts, and the first is better with probability 1.

    Kundu et al. 2023, "Specific versus General Principles for Constitutional AI", whose text was not at hand. That
    labels are normalised probabilities of the options, and that one of several principles is asked for each pair, is
    from memory of Bai et al. 2022 ("Constitutional AI: Harmlessness from AI Feedback"), of whose repository the
    instructions for comparisons were looked at. The mean over both orders is that of Lee et al. 2023 ("RLAIF vs.
    RLHF"), by notes on it.

    Deviations: 1. There are no examples before the question, and no chain of thought. 2. By default the principle is
    the end of the question; in those instructions it stands before the options.

    Args:
        source: prompts with two answers each.
        labeller: checkpoint of a `modules.preference.policy.Policy` with the same tokens; None: the judge's scores of
            the answers, by Bradley and Terry's model at the data's temperature.
        constitution: the principles.
        text: the question, with `{principle}`, `{prompt}`, `{first}` and `{second}` in it.
        options: what the labeller says if the first, or the second, is better.
        parts: the arguments of `PreferenceData`.

    Raises:
        UserError: no principle, a question without one of its parts, other than two options; records that are no text,
            or not scored where they have to be; a checkpoint of no policy or with other tokens.
    """

    batch_type = SoftPreferences
    papers = ("specific2023versus",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        labeller: str | None = None,
        constitution: Sequence[str] = ("serve humanity",),
        text: str = "{prompt} A {first} B {second} {principle}",
        options: Sequence[str] = ("A", "B"),
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        if not constitution:
            raise UserError("datamodule.constitution is empty.", "datamodule.constitution=['serve humanity']")
        lacking = [name for name in FIELDS if f"{{{name}}}" not in text]
        if lacking or len(options) != 2:
            raise UserError(
                f"datamodule.text='{text}' datamodule.options={list(options)}: a question with "
                f"{', '.join(f'{{{name}}}' for name in FIELDS)} in it, and two options."
            )
        self.labeller, self.constitution, self.text, self.options = labeller, list(constitution), text, list(options)

    def prepare(self) -> None:
        assert self._records is not None
        first = torch.ones(self._records.size)
        rows = self.rows["train"]
        first[rows] = self.by_scores(rows) if self.labeller is None else self.by_labeller(rows)
        self._columns["first"] = first

    def by_scores(self, rows: Tensor) -> Tensor:
        """Labels (n,) of some rows by what the answers are worth."""
        scores = self._columns.get("score")
        if scores is None:
            raise UserError(
                f"nobody has scored the answers of '{self.spec.name}'.", "datamodule.labeller=CHECKPOINT labels them"
            )
        gap = scores[2 * rows] - scores[2 * rows + 1]
        return torch.sigmoid(gap / self.temperature)

    @torch.no_grad()
    def by_labeller(self, rows: Tensor) -> Tensor:
        """Labels (n,) of some rows by a language model."""
        from modules.method import method_of
        from modules.preference.policy import Policy

        if self.dialogues is None:
            raise UserError(f"the answers of '{self.spec.name}' are no text.", "data that would do: conduct, requests")
        lack, known = "no Policy", self.spec.vocabulary
        policy = method_of(str(self.labeller), Policy, "datamodule.labeller", lack, vocabulary=known)
        which = torch.randint(len(self.constitution), (len(rows),), generator=generator(self.seed, "constitution"))
        parts = zip(rows.split(AT_ONCE), which.split(AT_ONCE), strict=True)
        return torch.cat([self.asked(policy, part.tolist(), principle.tolist()) for part, principle in parts])

    def asked(self, policy: Any, rows: Sequence[int], principles: Sequence[int]) -> Tensor:
        """A labeller, rows and the principle of each -> labels (n,)."""
        assert self.dialogues is not None
        assert self.speech is not None
        options = [self.speech.encode(option) for option in self.options]
        texts, begun = [], []
        for row, principle in zip(rows, principles, strict=True):
            one, other = (written(answer) for answer in self.dialogues.answers[row][:2])
            shown = {"principle": self.constitution[principle], "prompt": written(self.dialogues.prompts[row])}
            for first, second in ((one, other), (other, one)):
                question = self.speech.begun(self.text.format(first=first, second=second, **shown))
                texts += [torch.cat([question, option]) for option in options]
                begun += [len(question)] * len(options)
        ids = pad_sequence(texts, batch_first=True).long()
        place, length = torch.arange(ids.shape[1]), torch.tensor([len(text) for text in texts])
        said = (place >= torch.tensor(begun)[:, None]) & (place < length[:, None])
        chosen = policy.answer_log_probs(ids, said).view(-1, 2, 2).softmax(2)  # (pairs, orders, options)
        return (chosen[:, 0, 0] + chosen[:, 1, 1]) / 2

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        paired = {name: column for name, column in columns.items() if name != "first"}
        return super().take(paired, rows, split) | {"first": columns["first"][rows]}

    def present(self, columns: dict[str, Tensor], split: str) -> SoftPreferences:  # type: ignore[override]
        return SoftPreferences(*super().present(columns, split), columns["first"])


def written(text: Text) -> str:
    """A text, or the messages of a conversation, one to a line."""
    return text if isinstance(text, str) else "\n".join(f"{message['role']}: {message['content']}" for message in text)

"""Preferences with their reasons."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import ReasonedPairs
from datamodules.presentations.preferences import PreferenceData
from datamodules.ragged import Ragged
from datamodules.source import Column
from datamodules.spec import DataSpec

OWN = ("explained", "explained_length", "reason_begun")


class ReasonedPreferenceData(PreferenceData):
    """Pairs of answers and why one is preferred, as `ReasonedPairs` batches.

    Args:
        parts: the arguments of `PreferenceData`.

    Raises:
        UserError: preferences without reasons, or a context that has no room for them.
    """

    batch_type = ReasonedPairs

    def describe(self, spec: DataSpec) -> DataSpec:
        described = super().describe(spec)
        dialogues = self.dialogues
        if dialogues is None or not dialogues.reasons:
            raise UserError(f"nobody gives reasons in '{spec.name}'.", "data that would do: reasoned")
        assert self.speech is not None
        texts, begun = [], []
        for prompt, answers, reason in zip(dialogues.prompts, dialogues.answers, dialogues.reasons, strict=True):
            asked, chosen = self.speech.encoded(prompt, str(answers[0]))
            _, rejected = self.speech.encoded(prompt, str(answers[1]))
            _, why = self.speech.encoded("", reason)
            begun.append(len(asked) + len(chosen) + len(rejected))
            texts.append(torch.cat([asked, chosen, rejected, why]))
        explained = Ragged(texts)
        if self.context is not None and int(explained.lengths.max()) > self.context:
            raise UserError(
                f"datamodule.context={self.context} has no room for reasons.",
                f"the longest text has {int(explained.lengths.max())} tokens",
            )
        lengths = {"explained_length": explained.lengths, "reason_begun": torch.tensor(begun)}
        self._columns |= {"explained": explained, **lengths}
        return described

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        paired = {name: column for name, column in columns.items() if name not in OWN}
        return super().take(paired, rows, split) | {name: columns[name][rows] for name in OWN}

    def present(self, columns: dict[str, Tensor], split: str) -> ReasonedPairs:  # type: ignore[override]
        explained = columns["explained"]
        place = torch.arange(explained.shape[1], device=explained.device)
        begun, length = columns["reason_begun"][:, None], columns["explained_length"][:, None]
        pairs = super().present(columns, split)
        return ReasonedPairs(*pairs, explained, (place >= begun) & (place < length))

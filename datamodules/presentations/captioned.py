"""Pictures with captions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.batches import Captioned
from datamodules.datamodule import DataModule
from datamodules.presentations.scaling import Scaling
from datamodules.presentations.tokenizers import Words
from datamodules.source import Column, Reader, Records, Source
from datamodules.spec import DataSpec

CHUNK = 500
"""Pictures that are captioned at once."""


class CaptionedPictures(DataModule):
    """Pictures in [-1, 1] with their captions in words, as `Captioned` batches.

    Words are those that the source knows, or those of the training captions, from the first letter of the alphabet on.

    RECAP (Segalis et al. 2023, "A Picture is Worth a Thousand Words: Principled Recaptioning Improves Image
    Generation"): the training captions are thrown away, and a captioner that was tuned on a few good captions writes
    new ones, once, before the training. Validation and test keep theirs, which are the prompts. Deviation: one caption
    for each picture, the most probable word by word, where the paper has short and long ones.

    Args:
        source: pictures with captions.
        captioner: checkpoint of a model that captions pictures, such as `model=language/captioner`, which then writes
            the training captions. None: the source's own.
        rewritten: share of the training captions that it writes; the others stay the source's.
        longest: words of a caption; what comes after is left out. None: those of the longest caption.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: a source without captions, a checkpoint of a model that writes none, numbers out of range.
    """

    batch_type = Captioned
    kinds = ("image",)

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        captioner: str | None = None,
        rewritten: float = 1.0,
        longest: int | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        if not 0 <= rewritten <= 1:
            raise UserError(f"datamodule.rewritten={rewritten}: a share of the captions, from 0 to 1.")
        if longest is not None and longest < 1:
            raise UserError(f"datamodule.longest={longest}: a caption has at least one word.")
        self.captioner, self.rewritten, self.longest = captioner, rewritten, longest
        self.scaling = Scaling("symmetric")
        self.words = Words(())
        self.captions = torch.empty(0, 0, dtype=torch.long)
        self.reader: Reader | None = None

    @property
    def columns(self) -> Mapping[str, Column]:
        """The source's, and `caption` (N, T)."""
        return {**self.source_columns, "caption": self.captions}

    def split(self, records: Records) -> dict[str, Tensor]:
        if records.captions is None:
            raise UserError(f"'{records.spec.name}' has no captions.", "data that would do: scenes, captioned_folder")
        rows = super().split(records)
        texts = list(records.captions.texts)
        self.scaling.fit(records.columns["x"], rows["train"], records.spec)
        if self.captioner is not None:
            chosen = rows["train"]
            order = torch.randperm(len(chosen), generator=generator(self.seed, "recaptioned"))
            chosen = chosen[order[: round(self.rewritten * len(chosen))]]
            for row, text in zip(chosen.tolist(), self.written(records.columns["x"], chosen), strict=True):
                texts[row] = text
        said = {word for row in rows["train"].tolist() for word in Words.split(texts[row])}
        self.words, self.reader = Words(records.captions.words or sorted(said)), records.captions.reader
        longest = self.longest or max(max(len(Words.split(text)) for text in texts), 1)
        self.captions = torch.stack([self.words.encode(text, longest) for text in texts])
        return rows

    def written(self, x: Column, rows: Tensor) -> list[str]:
        """The captioner's captions of some rows."""
        from modules.capabilities import Captioner
        from modules.method import Method

        assert self.captioner is not None
        model = Method.load_from_checkpoint(self.captioner)
        if not isinstance(model, Captioner):
            raise UserError(
                f"datamodule.captioner={self.captioner} holds a {type(model).__name__}, which writes no captions.",
                "give a checkpoint of model=language/captioner",
            )
        words = Words(model.spec.words[2:])
        with torch.no_grad():
            return [
                words.decode(caption)
                for part in rows.split(CHUNK)
                for caption in model.caption(self.scaling(x[part].float()))
            ]

    def describe(self, spec: DataSpec) -> DataSpec:
        return self.scaling.describe(spec).but(words=self.words.words, caption=self.captions.shape[1])

    def present(self, columns: dict[str, Tensor], split: str) -> Captioned:
        return Captioned(self.scaling(columns["x"]), columns["caption"])

"""Text as windows of tokens."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean
from compendium.seeding import generator
from datamodules.batches import Tokens
from datamodules.datamodule import SPLITS, DataModule
from datamodules.presentations.tokenizers import SEPARATOR, TOKENIZERS, Tokenizer
from datamodules.source import Column, Records, Source
from datamodules.spec import DataSpec

MANY = 100


class TokenWindows(DataModule):
    """Windows over the concatenated documents of a split, as `Tokens` batches.

    A row is where a window begins in the tokens of all splits, which are held as one tensor; a batch is one gather.

    - Training: windows of `context` + 1 tokens, `context` apart, from a start and in an order that are functions of
      seed and epoch; each epoch has the same number of them.
    - Evaluation: windows of `context` + 1 tokens, `context` apart, so that each token but the first of the split is
      predicted exactly once. What is left at the end is one shorter window, in a batch of its own; `records` leaves it
      out, and so do the spec's `sizes`, which count windows.

    Documents are joined by the separator, token 0. Where the source does not split: with 100 documents or more, whole
    documents are split at random, as a function of the seed; with fewer, the joined text is cut by position, the
    beginning to train on, the end to test on.

    Args:
        source: text.
        tokenizer: `byte` (256 tokens) or `character` (those of the training text; others become the unknown token).
        context: tokens that a model reads; 64, nanoGPT's own for a CPU.
        parts: the arguments of `DataModule`; `validation` and `test` are shares of documents or of characters.

    Raises:
        UserError: an unknown tokenizer, a context below 1, a training text shorter than one window.
    """

    batch_type = Tokens
    kinds = ("text",)
    targets = (None,)
    tokenizer: Tokenizer

    def __init__(
        self, source: Source | Mapping[str, Any], *, tokenizer: str = "byte", context: int = 64, **parts: Any
    ) -> None:
        super().__init__(source, **parts)
        if tokenizer not in TOKENIZERS:
            raise UserError(f"datamodule.tokenizer={tokenizer} is unknown.", did_you_mean(tokenizer, TOKENIZERS))
        if context < 1:
            raise UserError(f"datamodule.context={context}: a model reads at least one token.")
        self.tokenizer_name, self.context = tokenizer, context
        self.tokens = torch.empty(0, dtype=torch.uint8)
        self.extent: dict[str, tuple[int, int]] = {}
        self.tails: dict[int, int] = {}

    @property
    def columns(self) -> Mapping[str, Column]:
        """`tokens`, the ids of all splits one after the other, uint8 or int32."""
        self.setup()
        return {"tokens": self.tokens}

    def describe(self, spec: DataSpec) -> DataSpec:
        return spec.but(shape=(self.context,), vocabulary=self.tokenizer.vocabulary)

    def split(self, records: Records) -> dict[str, Tensor]:
        """Tokens of all splits, and the starts of their full windows."""
        texts = self._texts(records)
        self.tokenizer = TOKENIZERS[self.tokenizer_name](texts["train"])
        parts = [self.tokenizer.encode(texts[split]) for split in SPLITS]
        if len(parts[0]) <= self.context:
            raise UserError(
                f"data '{records.spec.name}' has {len(parts[0])} tokens to train on, fewer than one window of "
                f"datamodule.context={self.context} tokens and the one that follows.",
                "Take a shorter context, or more text.",
            )
        self.tokens = torch.cat(parts)
        ends = torch.tensor([len(part) for part in parts]).cumsum(0).tolist()
        self.extent = dict(zip(SPLITS, zip([0, *ends[:-1]], ends, strict=True), strict=True))
        rows = {}
        for split, (start, end) in self.extent.items():
            windows, left = divmod(max(end - start - 1, 0), self.context)
            if split == "train":
                # One window fewer wherever that lets the start move freely by a whole window.
                windows = max(1, (end - start - self.context) // self.context)
            elif left:
                self.tails[end - left - 1] = left
            rows[split] = start + self.context * torch.arange(windows)
        return rows

    def _texts(self, records: Records) -> dict[str, str]:
        documents = {split: list(texts) for split, texts in records.documents.items()}
        missing = [split for split in ("test", "validation") if split not in documents]
        total = len(documents["train"])
        if missing and total >= MANY:
            order = torch.randperm(total, generator=generator(self.seed, "split")).tolist()
            for split in missing:
                count = round(total * self.shares[split])
                documents[split] = [documents["train"][index] for index in order[:count]]
                order = order[count:]
            documents["train"] = [documents["train"][index] for index in order]
            missing = []
        texts = {split: SEPARATOR.join(parts) for split, parts in documents.items()}
        length = len(texts["train"])
        for split in missing:
            cut = len(texts["train"]) - round(length * self.shares[split])
            texts["train"], texts[split] = texts["train"][:cut], texts["train"][cut:]
        return texts

    def plan(self, epoch: int) -> list[Tensor]:
        """Starts of the windows of one epoch, shifted and shuffled."""
        draw = generator(self.seed, "order", epoch)
        rows = self.rows["train"]
        room = self.extent["train"][1] - len(rows) * self.context
        rows = rows + torch.randint(min(self.context, room), (), generator=draw)
        return self.cut(rows[torch.randperm(len(rows), generator=draw)])

    def evaluation_plan(self, split: str) -> list[Tensor]:
        start, end = self.extent[split]
        tails = [torch.tensor([tail]) for tail in self.tails if start <= tail < end]
        return super().evaluation_plan(split) + tails

    def take(self, columns: Mapping[str, Column], rows: Tensor, split: str) -> dict[str, Tensor]:
        width = self.context
        if split != "train" and len(rows) == 1:
            width = self.tails.get(int(rows), width)
        window = torch.arange(width + 1, device=rows.device)
        return {"ids": columns["tokens"][rows[:, None] + window].long()}

    def present(self, columns: dict[str, Tensor], split: str) -> Tokens:
        return Tokens(columns["ids"])

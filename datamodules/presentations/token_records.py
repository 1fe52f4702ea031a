"""Short texts as records of their own."""

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


class TokenRecords(DataModule):
    """Each document is one record: a separator, its tokens, and separators up to `context` tokens, as `Tokens`.

    The first separator is what an autoregressive model reads to predict the first token. Splits that the source lacks
    are cut at random from its training documents.

    Args:
        source: text in short documents.
        tokenizer: `byte` or `character`, see `TokenWindows`.
        context: tokens of a record, without the first separator; None: those of the longest document.
        parts: the arguments of `DataModule`.

    Raises:
        UserError: an unknown tokenizer, a document that is longer than the context.
    """

    batch_type = Tokens
    kinds = ("text",)
    targets = (None,)
    tokenizer: Tokenizer

    def __init__(
        self,
        source: Source | Mapping[str, Any],
        *,
        tokenizer: str = "character",
        context: int | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(source, **parts)
        if tokenizer not in TOKENIZERS:
            raise UserError(f"datamodule.tokenizer={tokenizer} is unknown.", did_you_mean(tokenizer, TOKENIZERS))
        self.tokenizer_name, self.context = tokenizer, context
        self.ids = torch.empty(0, dtype=torch.uint8)

    @property
    def columns(self) -> Mapping[str, Column]:
        """`ids`, the records of all splits (N, context + 1), uint8 or int32."""
        self.setup()
        return {"ids": self.ids}

    def describe(self, spec: DataSpec) -> DataSpec:
        return spec.but(shape=(self.ids.shape[1] - 1,), vocabulary=self.tokenizer.vocabulary)

    def split(self, records: Records) -> dict[str, Tensor]:
        """Records of all splits, and their row numbers."""
        documents = {split: list(texts) for split, texts in records.documents.items()}
        order = torch.randperm(len(documents["train"]), generator=generator(self.seed, "split")).tolist()
        total = len(order)
        for split in ("test", "validation"):
            if split not in documents:
                count = round(total * self.shares[split])
                documents[split] = [documents["train"][row] for row in order[:count]]
                order = order[count:]
        documents["train"] = [documents["train"][row] for row in order]
        self.tokenizer = TOKENIZERS[self.tokenizer_name](SEPARATOR.join(documents["train"]))
        encoded = [self.tokenizer.encode(text) for split in SPLITS for text in documents[split]]
        longest = max(map(len, encoded), default=0)
        context = longest if self.context is None else self.context
        if longest > context or context < 1:
            raise UserError(
                f"data '{records.spec.name}' has a document of {longest} tokens, and datamodule.context={context}.",
                "Take a longer context, or windows over the joined text: datamodule=token_windows",
            )
        self.ids = torch.zeros(len(encoded), context + 1, dtype=torch.uint8 if not encoded else encoded[0].dtype)
        for row, tokens in zip(self.ids, encoded, strict=True):
            row[1 : 1 + len(tokens)] = tokens
        rows = torch.arange(len(encoded)).split([len(documents[split]) for split in SPLITS])
        return dict(zip(SPLITS, rows, strict=True))

    def present(self, columns: dict[str, Tensor], split: str) -> Tokens:
        return Tokens(columns["ids"].long())

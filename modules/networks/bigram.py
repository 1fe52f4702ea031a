"""A table of what comes after each token."""

from __future__ import annotations

from torch import Tensor, nn


class Bigram(nn.Module):
    """Logits of the next token, a row of a table for each last token: any law p(next | last), even at first.

    Args:
        in_shape: (context,), the longest text that it reads.
        out_shape: (vocabulary,).
    """

    kinds = ("text",)

    def __init__(self, in_shape: tuple[int], out_shape: tuple[int]) -> None:
        super().__init__()
        self.table = nn.Embedding(out_shape[0], out_shape[0])
        nn.init.zeros_(self.table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> logits (B, T, vocabulary)."""
        return self.table(ids)

"""A table of what comes after each two tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Trigram(nn.Module):
    """Logits of the next token, a row of a table for each last two, and one for each token that begins a text: any law
    p(next | the last two), even at first.

    Args:
        in_shape: (context,), the longest text that it reads.
        out_shape: (vocabulary,).
    """

    kinds = ("text",)

    def __init__(self, in_shape: tuple[int], out_shape: tuple[int]) -> None:
        super().__init__()
        (self.vocabulary,) = out_shape
        self.table = nn.Embedding((self.vocabulary + 1) * self.vocabulary, self.vocabulary)
        nn.init.zeros_(self.table.weight)

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> logits (B, T, vocabulary)."""
        before = F.pad(ids[:, :-1] + 1, (1, 0))  # 0: nothing stands before
        return self.table(before * self.vocabulary + ids)

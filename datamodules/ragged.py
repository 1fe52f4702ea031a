"""Texts of different lengths as one column."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


class Ragged:
    """Token ids of N texts, one after the other in one tensor; a batch of them is one gather.

    Args:
        texts: ids (T_n,) of each text, of any integer type.
    """

    def __init__(self, texts: Sequence[Tensor]) -> None:
        lengths = torch.tensor([len(text) for text in texts], dtype=torch.int64)
        self.ends = lengths.cumsum(0)
        self.flat = torch.cat([*texts, torch.zeros(1, dtype=torch.int32)]).to(torch.int32)  # none may be asked of none

    @classmethod
    def even(cls, texts: Tensor) -> Ragged:
        """Texts of one length, ids (N, T)."""
        made = object.__new__(cls)
        made.ends = torch.arange(1, len(texts) + 1) * texts.shape[1]
        made.flat = torch.cat([texts.flatten(), texts.new_zeros(1)]).to(torch.int32)
        return made

    def __len__(self) -> int:
        return len(self.ends)

    @property
    def lengths(self) -> Tensor:
        """Number of tokens of each text, int64 (N,)."""
        return self.ends.diff(prepend=self.ends.new_zeros(1))

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows int64 (...) -> ids int64 (..., T), filled up with 0 to the longest of them."""
        ends = self.ends[rows]
        starts = torch.where(rows > 0, self.ends[(rows - 1).clamp_min(0)], 0)
        longest = int((ends - starts).max()) if rows.numel() else 0
        place = starts[..., None] + torch.arange(longest, device=rows.device)
        return torch.where(place < ends[..., None], self.flat[place.clamp_max(len(self.flat) - 1)], 0).long()

    def to(self, device: torch.device) -> Ragged:
        """The same column on a device."""
        moved = object.__new__(Ragged)
        moved.ends, moved.flat = self.ends.to(device), self.flat.to(device)
        return moved

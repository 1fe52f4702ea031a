"""Methods that solve from all records at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from modules.method import SolvedMethod


class KeepingMethod(SolvedMethod, ABC):
    """Keeps a row of numbers of each record of a pass, float64, over all processes, for `solve`."""

    kept: Tensor
    seen: Tensor

    @abstractmethod
    def accumulate(self, batch: Any) -> None:
        """`keep` what is needed of a batch."""

    def reserve(self, width: int) -> None:
        """Make room for so many numbers of each training record."""
        self.register_buffer("kept", torch.zeros(self.spec.sizes.get("train", 0), width, dtype=torch.float64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))

    def keep(self, rows: Tensor) -> None:
        """Keep this process's rows (B, width) of a batch, and the others'."""
        rows = self.rows_of_all(rows.double())
        # A second pass brings the same records in another order.
        place = (self.seen + torch.arange(len(rows), device=rows.device)) % len(self.kept)
        self.kept[place] = rows
        self.seen += len(rows)

    def rows_kept(self) -> Tensor:
        """The rows (n, width) of the records that have been seen."""
        return self.kept[: min(int(self.seen), len(self.kept))]

"""What several processes have together, without a trainer at hand."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed
from torch import Tensor


def distributed() -> bool:
    """Whether this process is one of several that can talk to each other."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def sum_of_all(value: Tensor) -> Tensor:
    """A sum or statistic of each process -> its sum over the processes; `value` itself is left as it is."""
    if distributed():
        value = value.clone()
        torch.distributed.all_reduce(value)
    return value


def rows_of_all(rows: Tensor) -> Tensor:
    """Rows (n_p, ...) of each process p -> the rows of all, in the order of the processes, where these are."""
    if not distributed():
        return rows
    parts: list[Any] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(parts, rows.cpu())
    # A process without a record may not know the shape of one: its empty rows say nothing.
    return torch.cat([part for part in parts if len(part)] or [rows.cpu()]).to(rows.device)

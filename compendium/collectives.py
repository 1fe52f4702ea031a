"""What several processes have together, without a trainer at hand."""

from __future__ import annotations

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

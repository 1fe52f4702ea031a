"""Joint embedding: what every method that learns from two views of each record has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.distributed
from torch import Tensor, nn

from compendium.collectives import distributed
from compendium.errors import UserError
from datamodules.batches import TwoViews
from datamodules.spec import DataSpec
from modules.method import Method


class JointEmbedding(Method, ABC):
    """Learns a representation by a loss of the projections of two views.

        h = f(x)                    the representation, see `embed`: the network up to its last layer
        z = W_k relu( ... W_1 h)    the projection that the loss sees; W_1 is the network's last layer

    A subclass overrides `agreement`. Over several processes the loss sees the records of all of them, so that the
    negatives and the statistics of a batch do not depend on how it is shared out.

    Args:
        spec: images or vectors, with or without a target, which is not looked at.
        projection: widths of the layers W_1, ..., W_k.
        parts: `net`, `optimizer`, `schedule`, see `Method`. The network has `embed`.

    Raises:
        UserError: no layer.
    """

    batch_type = TwoViews
    kinds = ("image", "vector")

    def __init__(self, spec: DataSpec | Mapping[str, Any], projection: Sequence[int], **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not projection or min(projection) < 1:
            raise UserError(
                f"model.projection={list(projection)}: name the width of one layer at least, e.g. [64, 128]."
            )
        self.net = self.build(self.spec.shape, (projection[0],))
        layers = [nn.Sequential(nn.ReLU(), nn.Linear(*widths)) for widths in pairwise(projection)]
        self.projector = nn.Sequential(*layers)

    @abstractmethod
    def agreement(self, a: Tensor, b: Tensor) -> Tensor | dict[str, Tensor]:
        """The loss of the projections of two views, (N, D) each; row i of both comes from one record."""

    def loss(self, batch: TwoViews) -> Tensor | dict[str, Tensor]:
        a, b = self.projector(self.net(torch.cat([batch.a, batch.b]))).chunk(2)
        return self.agreement(of_all(a), of_all(b))

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> representation (B, D)."""
        return self.net.embed(x)


def of_all(rows: Tensor) -> Tensor:
    """Rows (n, D) of this process, equally many on each -> the rows of all, (n * processes, D), to be differentiated.

    Each process then has the loss of the whole batch, and differentiates it by its own rows alone; DDP takes the mean
    over the processes of what should be their sum, hence the factor.
    """
    if not distributed():
        return rows
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    parts = [torch.empty_like(rows) for _ in range(world)]
    torch.distributed.all_gather(parts, rows.detach().contiguous())
    parts[rank] = rows + (world - 1) * (rows - rows.detach())
    return torch.cat(parts)

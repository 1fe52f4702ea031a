"""Low-rank changes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.adapters.base import Adapter, reparametrize


class LowRankWeight(nn.Module):
    """A weight plus up @ down, of rank `rank`. It begins as the weight.

    Args:
        weight: (out, ...).
        rank: of the change, cut down to the smaller side of the weight.
    """

    def __init__(self, weight: Tensor, rank: int) -> None:
        super().__init__()
        flat = weight.detach().flatten(1)
        rank = min(rank, *flat.shape)
        self.down = nn.Parameter(flat.new_empty(rank, flat.shape[1]).normal_() / flat.shape[1] ** 0.5)
        self.up = nn.Parameter(flat.new_zeros(flat.shape[0], rank))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.up @ self.down).view_as(weight)


class LowRank(Adapter):
    """LoRA: each linear or convolutional layer of in inputs and out outputs gets rank (in + out) weights.

    Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models".

    Args:
        rank: of the changes. Default 4, diffusers'.
        layers: parts of the names of the layers that change; None: all.

    Raises:
        UserError: a rank below 1; on a network: no layer of such a name.
    """

    def __init__(self, rank: int = 4, layers: Sequence[str] | None = None) -> None:
        if rank < 1:
            raise UserError(f"rank={rank}: at least 1.")
        self.rank, self.layers = rank, layers

    def attach(self, net: nn.Module) -> None:
        reparametrize(net, lambda weight: LowRankWeight(weight, self.rank), self.layers)

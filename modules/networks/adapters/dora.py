"""Low-rank changes of the direction of each neuron, and a change of its length."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from modules.networks.adapters.base import reparametrize
from modules.networks.adapters.low_rank import LowRank, LowRankWeight


class DoRAWeight(LowRankWeight):
    """m_i (W + alpha / r B A)_i / |(W + alpha / r B A)_i| for row i; it begins as W with m_i = |W_i|.

    No gradient goes through the norm, as in the paper's section 4.3.

    Args:
        weight: (out, ...).
        rank: r.
        alpha: of the scale.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float) -> None:
        super().__init__(weight, rank)
        self.scale = alpha / rank
        self.magnitude = nn.Parameter(weight.detach().flatten(1).norm(dim=1))

    def forward(self, weight: Tensor) -> Tensor:
        moved = weight.flatten(1) + self.scale * (self.up @ self.down)
        return (moved * (self.magnitude / moved.detach().norm(dim=1))[:, None]).view_as(weight)


class DoRA(LowRank):
    """Liu et al. 2024, "DoRA: Weight-Decomposed Low-Rank Adaptation"; a baseline of ALLoRA.

    Args:
        rank: of the changes.
        alpha: the changes are multiplied by alpha / rank.
        layers: parts of the names of the layers that change; None: all.

    Raises:
        UserError: a rank below 1; on a network: no layer of such a name.
    """

    def __init__(self, rank: int = 4, alpha: float = 8.0, layers: Sequence[str] | None = None) -> None:
        super().__init__(rank, layers)
        self.alpha = alpha

    def attach(self, net: nn.Module) -> None:
        reparametrize(net, lambda weight: DoRAWeight(weight, self.rank, self.alpha), self.layers)

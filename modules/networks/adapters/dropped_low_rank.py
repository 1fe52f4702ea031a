"""Low-rank changes with a scale and dropout."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.adapters.base import layers as layers_of
from modules.networks.adapters.low_rank import LowRank, LowRankWeight


class DroppedChange(LowRankWeight):
    """x -> alpha / r B A dropout(x), beside a layer x -> W x + b.

    Args:
        weight: W (out, in).
        rank: r.
        alpha: of the scale.
        dropout: share of inputs that are 0 in training, the others scaled up.
    """

    def __init__(self, weight: Tensor, rank: int, alpha: float, dropout: float) -> None:
        super().__init__(weight, rank)
        self.scale, self.dropout = alpha / rank, nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        return self.scale * nn.functional.linear(nn.functional.linear(self.dropout(x), self.down), self.up)


class DroppedLowRank(LowRank):
    """LoRA as it is usually trained, with dropout of what goes into the change; for linear layers.

    Hu et al. 2022, "LoRA: Low-Rank Adaptation of Large Language Models"; the baseline of ALLoRA.

    Args:
        rank: of the changes.
        alpha: the changes are multiplied by alpha / rank.
        dropout: in [0, 1); peft's examples have 0.05 to 0.1.
        layers: parts of the names of the layers that change; None: all.

    Raises:
        UserError: a value out of range; on a network: no layer of such a name, or one that is not linear.
    """

    def __init__(
        self, rank: int = 4, alpha: float = 8.0, dropout: float = 0.05, layers: Sequence[str] | None = None
    ) -> None:
        super().__init__(rank, layers)
        if not 0 <= dropout < 1:
            raise UserError(f"adapter.dropout={dropout}: it lies in [0, 1).")
        self.alpha, self.dropout = alpha, dropout

    def attach(self, net: nn.Module) -> None:
        net.requires_grad_(False)
        chosen = list(layers_of(net, self.layers))
        if not chosen or not all(isinstance(layer, nn.Linear) for layer in chosen):
            raise UserError(
                f"adapter.layers={list(self.layers or ())}: dropout is of linear layers, which these are not.",
                "adapter=lora, or adapter.layers=[...] of a network of linear layers",
            )
        for layer in chosen:
            layer.change = DroppedChange(layer.weight, self.rank, self.alpha, self.dropout)  # type: ignore[arg-type]
            layer.register_forward_hook(changed)


def changed(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
    """The output of a layer with its change."""
    return torch.add(output, layer.change(inputs[0]))  # type: ignore[operator]

"""Low-rank changes that leave 0 fast and slow down as they grow."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.adapters.low_rank import LowRank, LowRankWeight


class ALLoRA(LowRank):
    """LoRA without dropout and without a scale, whose learning rate follows the weights. For a change B A, B (out, r):

        gradient of row i of B  <-  that gradient / sqrt(|B_i| + 1 / eta^2)

    A factor of eta where B is 0, as it is at first, which falls to 1 / sqrt(|B_i|). It is the gradient that any
    optimizer then takes; Adam divides what is constant of the factor out again.

    Huang and Balestriero 2024, "ALLoRA: Adaptive Learning Rate Mitigates LoRA Fatal Flaws", abstract; in its notation
    A and B change places.

    Deviations: (1) the form under the root is as it is remembered: the abstract says "inversely proportional to
    parameters' l2 norm", and no code was found; (2) per row of B, of the batch's mean gradient.

    Args:
        rank: of the changes.
        eta: the factor at 0, above 0.
        layers: parts of the names of the layers that change; None: all.

    Raises:
        UserError: a value out of range; on a network: no layer of such a name.
    """

    def __init__(self, rank: int = 4, eta: float = 8.0, layers: Sequence[str] | None = None) -> None:
        super().__init__(rank, layers)
        if not eta > 0:
            raise UserError(f"adapter.eta={eta}: it is above 0.")
        self.eta = eta

    def attach(self, net: nn.Module) -> None:
        super().attach(net)
        for part in net.modules():
            if isinstance(part, LowRankWeight):
                part.up.register_hook(partial(scaled, weight=part.up, eta=self.eta))


def scaled(gradient: Tensor, weight: Tensor, eta: float) -> Tensor:
    """Gradient (out, r) of a weight (out, r), each row over sqrt(|row of the weight| + 1 / eta^2)."""
    return gradient / (weight.detach().norm(dim=1, keepdim=True) + 1 / eta**2).sqrt()

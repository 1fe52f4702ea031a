"""Orthogonal changes: neurons are turned, all of a layer alike."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from modules.networks.adapters.base import Adapter, reparametrize


class TurnedWeight(nn.Module):
    """The neurons w (in,) of a layer, each turned by the same R = diag(R_1, ..., R_r): w -> R w. R begins as I.

        R_i = (I + Q_i) (I - Q_i)^-1,    Q_i = -Q_i^T

    Args:
        weight: (out, ...), whose rows have `in` numbers.
        block: side b of the blocks, cut down to the next divisor of `in`.
        radius: of the sphere in which the r matrices Q_i are kept, |Q_i| <= radius / sqrt(r); None: anywhere.
    """

    def __init__(self, weight: Tensor, block: int, radius: float | None) -> None:
        super().__init__()
        inputs = weight.flatten(1).shape[1]
        self.block = max(side for side in range(1, min(block, inputs) + 1) if inputs % side == 0)
        self.radius = radius
        rows, columns = torch.triu_indices(self.block, self.block, 1)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        self.skew = nn.Parameter(weight.new_zeros(inputs // self.block, len(rows)))

    def turn(self) -> Tensor:
        """The matrices R_i (r, b, b)."""
        q = self.skew.new_zeros(len(self.skew), self.block, self.block)
        q[:, self.rows, self.columns] = self.skew
        q = q - q.mT
        one = torch.eye(self.block, dtype=q.dtype, device=q.device)
        return torch.linalg.solve(one - q, one + q, left=False)

    @torch.no_grad()
    def project(self) -> None:
        """Bring the Q_i back into their sphere."""
        assert self.radius is not None
        bound = self.radius / len(self.skew) ** 0.5
        norm = 2**0.5 * self.skew.norm(dim=1, keepdim=True)  # each number of Q stands in it twice
        self.skew.mul_(bound / norm.clamp(min=bound))

    def forward(self, weight: Tensor) -> Tensor:
        if self.radius is not None:
            self.project()
        blocks = weight.flatten(1).unflatten(1, (-1, self.block))  # (out, r, b)
        return torch.einsum("rij,orj->ori", self.turn(), blocks).reshape(weight.shape)


class Orthogonal(Adapter):
    """OFT: turns the neurons of each linear and convolutional layer, so that the angles between them stay.

    With the angles stays the hyperspherical energy, the sum over pairs of 1 / |w_i / |w_i| - w_j / |w_j||, which the
    paper holds to carry what a model knows. A layer of `in` inputs gets in (b - 1) / 2 weights. With a radius the
    change stays near the identity (COFT).

    Qiu et al. 2023, "Controlling Text-to-Image Diffusion by Orthogonal Finetuning", section 3.

    Deviations: (1) all linear and convolutional layers are turned unless `layers` says less; the authors' experiments
    turn those of the attention; (2) the radius bounds Q and not R - I, as in the authors' code; (3) blocks are not
    shared; (4) no magnitudes are tuned; (5) blocks are named by their side and not by their number, as layers differ in
    width.

    Args:
        block: side of the blocks of R, cut down to the next divisor of a layer's inputs.
        radius: eps of COFT; None: OFT.
        layers: parts of the names of the layers that are turned; None: all.

    Raises:
        UserError: a block that cannot turn, a radius that is none; on a network: no layer of such a name.
    """

    papers = ("qiu2023controlling",)

    def __init__(self, block: int = 16, radius: float | None = None, layers: Sequence[str] | None = None) -> None:
        if block < 2:
            raise UserError(f"block={block}: turning takes at least 2 numbers.")
        if radius is not None and radius <= 0:
            raise UserError(f"radius={radius}: above 0, or null.")
        self.block, self.radius, self.layers = block, radius, layers

    def attach(self, net: nn.Module) -> None:
        reparametrize(net, lambda weight: TurnedWeight(weight, self.block, self.radius), self.layers)

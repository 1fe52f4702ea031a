"""One network for patches of a picture at several scales, the finer ones told by the coarser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.residual import ResidualBlock, norm
from modules.networks.time import Conditioning


class Patches(NamedTuple):
    """Patches of one level.

    Attributes:
        x: float (N, C, p, q).
        corner: row and column of their first pixels in the level's picture, int64 (N, 2).
        parent: which patch of the level above contains each, int64 (N,); at level 0: which record it is of.
    """

    x: Tensor
    corner: Tensor
    parent: Tensor


class PatchPyramid(nn.Module):
    """Level l has patches of one size, in pixels, of a picture 2^l times as large as level 0, which is one patch.

    All levels go through the same residual blocks, level l through the first `blocks[l]` of them: the coarse picture
    gets most (adaptive computation). Before each block a patch is told what the patch that contains it had become
    behind the same block, at its own place there (deep context fusion):

        h_l <- block_i(h_l + W_i crop(h_{l-1} behind block_i))

    Skorokhodov et al. 2024, "Hierarchical Patch Diffusion Models for High-Resolution Video Generation".

    Args:
        in_shape: (channels, height, width) of the whole picture, divisible by 2^(number of levels - 1).
        out_shape: likewise.
        blocks: residual blocks per level, from the coarsest; none may have more than the one above it.
        width: channels of the hidden layers.
        context: whether finer levels are told by coarser ones.
        time: whether there is a time.
        classes: how many classes there are; 0 for none.

    Raises:
        UserError: fewer than two levels, more blocks below than above, a size that cannot be halved so often.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        blocks: Sequence[int] = (4, 3),
        width: int = 48,
        context: bool = True,
        time: bool = False,
        classes: int = 0,
    ) -> None:
        super().__init__()
        self.levels = len(blocks)
        fine = 2 ** (self.levels - 1)
        if self.levels < 2 or min(blocks) < 1 or sorted(blocks, reverse=True) != list(blocks):
            raise UserError(f"net.blocks={list(blocks)}: two levels or more, of ever fewer blocks.")
        if in_shape[1] % fine or in_shape[2] % fine:
            raise UserError(f"net.blocks={list(blocks)} halves pictures {self.levels - 1} times, not {in_shape[1:]}.")
        self.blocks_of, self.context = tuple(blocks), context
        self.size = (in_shape[1] // fine, in_shape[2] // fine)
        self.condition = Conditioning(width, time, classes)
        self.level = nn.Embedding(self.levels, width)
        self.first = nn.Conv2d(in_shape[0] + 2, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, width, width) for _ in range(blocks[0]))
        self.told = nn.ModuleList(nn.Conv2d(width, width, 1) for _ in range(blocks[1] if context else 0))
        self.last = nn.Sequential(norm(width), nn.SiLU(), nn.Conv2d(width, out_shape[0], 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, levels: Sequence[Patches], t: Tensor | None = None, y: Tensor | None = None) -> list[Tensor]:
        """Patches per level, from the coarsest, t (B,) and y (B,) of the B records -> what they become (N, C, p, q)."""
        record = levels[0].parent
        c = self.condition(t, y)
        outputs: list[Tensor] = []
        above: list[Tensor] = []
        corners = levels[0].corner
        for number, patches in enumerate(levels):
            if number:
                record = record[patches.parent]
            shift = self.level.weight[number].expand(len(patches.x), -1)
            if isinstance(c, Tensor):
                shift = shift + (c[record] if len(c) > 1 else c)
            h = self.first(torch.cat([patches.x, self.places(patches, number)], 1))
            behind = []
            # Where the patch begins in the one that contains it, in the pixels of that one.
            inside = patches.corner / 2 - corners[patches.parent] if number else None
            for i in range(self.blocks_of[number]):
                if inside is not None and self.context:
                    h = h + self.told[i](half(above[i][patches.parent], inside))
                h = self.blocks[i](h, shift)
                behind.append(h)
            outputs.append(self.last(h))
            above, corners = behind, patches.corner
        return outputs

    def places(self, patches: Patches, level: int) -> Tensor:
        """Rows and columns of the pixels of patches in the whole picture, from -1 to 1 (N, 2, p, q)."""
        size = torch.tensor(self.size, device=patches.x.device)
        rows, columns = (torch.arange(side, device=size.device) + 0.5 for side in self.size)
        scale = 2 / (size * 2**level)
        down = (patches.corner[:, :1] + rows) * scale[0] - 1
        across = (patches.corner[:, 1:] + columns) * scale[1] - 1
        shape = (len(down), *self.size)
        return torch.stack([down[:, :, None].expand(shape), across[:, None].expand(shape)], 1).to(patches.x)


def half(h: Tensor, corner: Tensor) -> Tensor:
    """The parts of features (N, W, p, q) that are half as high and wide and begin at corners (N, 2), in as many pixels.

    By bilinear interpolation; corners may lie between pixels.
    """
    size = torch.tensor(h.shape[2:], device=h.device)
    centre = 2 * (corner + size / 4) / size - 1
    theta = h.new_zeros(len(h), 2, 3)
    theta[:, 0, 0] = theta[:, 1, 1] = 0.5
    theta[:, :, 2] = centre.flip(1).to(h)  # across, then down
    return F.grid_sample(
        h, F.affine_grid(theta, list(h.shape), align_corners=False), align_corners=False, padding_mode="border"
    )

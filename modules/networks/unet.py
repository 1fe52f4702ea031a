"""U-Net for fields over images."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.residual import ResidualBlock, norm
from modules.networks.time import Conditioning


class UNet(nn.Module):
    """Residual blocks down, in the middle and up, joined across at each resolution.

    Ronneberger et al. 2015; with time as in Ho et al. 2020. The last convolution starts at zero, and so does the field.

    Args:
        in_shape: (channels, height, width); height and width divisible by 2^(len(channels) - 1).
        out_shape: (channels, height, width) of the same height and width.
        channels: channels per resolution; each further one halves height and width.
        blocks: residual blocks per resolution.
        time: whether `forward` also takes t (B,).
        classes: how many classes y (B,) `forward` also takes; 0 for none.
        conditioning: width of the embedding of time and class.

    Raises:
        UserError: a size that cannot be halved often enough.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        channels: Sequence[int] = (32, 64),
        blocks: int = 1,
        time: bool = False,
        classes: int = 0,
        conditioning: int = 128,
    ) -> None:
        super().__init__()
        halvings = 2 ** (len(channels) - 1)
        if in_shape[1] % halvings or in_shape[2] % halvings:
            raise UserError(
                f"net=unet with {len(channels)} resolutions needs height and width divisible by {halvings}, "
                f"not {in_shape[1]} x {in_shape[2]}.",
                "choose fewer net.channels, or another size for the images",
            )
        width = conditioning if time or classes else 0
        self.condition = Conditioning(width, time, classes) if width else None
        self.first = nn.Conv2d(in_shape[0], channels[0], 3, padding=1)
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        current, skips = channels[0], []
        for level, wider in enumerate(channels):
            self.shrink.append(nn.Conv2d(current, current, 3, stride=2, padding=1) if level else nn.Identity())
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResidualBlock(current, wider, width))
                current = wider
                skips.append(current)
            self.down.append(stage)
        self.middle = ResidualBlock(current, current, width)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for level, narrower in reversed(list(enumerate(channels))):
            stage = nn.ModuleList()
            for _ in range(blocks):
                stage.append(ResidualBlock(current + skips.pop(), narrower, width))
                current = narrower
            self.up.append(stage)
            self.grow.append(nn.Conv2d(current, current, 3, padding=1) if level else nn.Identity())
        self.last = nn.Sequential(norm(current), nn.SiLU(), nn.Conv2d(current, out_shape[0], 3, padding=1))
        nn.init.zeros_(self.last[-1].weight)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,) if `time`, y int64 (B,) if `classes`, -1 for any -> (B, *out_shape)."""
        c = self.condition(t, y) if self.condition is not None else None
        h, skips = self.first(x), []
        for shrink, stage in zip(self.shrink, self.down, strict=True):
            h = shrink(h)
            for block in stage:
                h = block(h, c)
                skips.append(h)
        h = self.middle(h, c)
        for stage, grow in zip(self.up, self.grow, strict=True):
            for block in stage:
                h = block(torch.cat([h, skips.pop()], dim=1), c)
            if not isinstance(grow, nn.Identity):
                h = grow(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.last(h)

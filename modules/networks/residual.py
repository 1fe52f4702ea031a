"""The residual block of the image networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from compendium.config import instantiate


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with normalisation and SiLU around a skip connection (He et al. 2016).

    Args:
        channels_in: channels of the input.
        channels_out: channels of the output.
        conditioning: width of a vector that is added per channel between the convolutions; 0 for none.
        kind: config of the normalisation, see `norm`.
    """

    def __init__(
        self, channels_in: int, channels_out: int, conditioning: int = 0, kind: Mapping[str, Any] | None = None
    ) -> None:
        super().__init__()
        first, second = norm(channels_in, kind), norm(channels_out, kind)
        self.first = nn.Sequential(first, nn.SiLU(), nn.Conv2d(channels_in, channels_out, 3, padding=1))
        self.second = nn.Sequential(second, nn.SiLU(), nn.Conv2d(channels_out, channels_out, 3, padding=1))
        self.shift = nn.Linear(conditioning, channels_out) if conditioning else None
        self.skip = nn.Conv2d(channels_in, channels_out, 1) if channels_in != channels_out else nn.Identity()

    def forward(self, x: Tensor, c: Tensor | None = None) -> Tensor:
        """x (B, channels_in, H, W), c (B, conditioning) -> (B, channels_out, H, W)."""
        h = self.first(x)
        if self.shift is not None:
            h = h + self.shift(c)[:, :, None, None]
        return self.skip(x) + self.second(h)


def norm(channels: int, kind: Mapping[str, Any] | None = None) -> nn.Module:
    """The normalisation of a config that leaves the channels open; group normalisation where there is none.

    Its groups are 8, or as many as divide the channels.
    """
    if kind is None:
        return nn.GroupNorm(math.gcd(8, channels), channels)
    return instantiate(kind, channels, where="net.norm")

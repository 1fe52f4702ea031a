"""A network over pictures that sees, at each pixel, only pixels before it in raster order."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def places_before(height: int, width: int, radius: int) -> Tensor:
    """Where the pixels before each pixel lie, within `radius` rows and columns: int64 (height * width, K).

    Places count in a picture that is padded by `radius` above, left and right; K = 2 radius (radius + 1).
    """
    side = width + 2 * radius
    offsets = [-up * side + across for up in range(radius, 0, -1) for across in range(-radius, radius + 1)]
    offsets += list(range(-radius, 0))
    row, column = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    centre = (row + radius) * side + column + radius
    return centre.reshape(-1, 1) + torch.tensor(offsets)


class CausalWindow(nn.Module):
    """x (N, C, H, W) and features (N, H, W, width) -> (N, C, H, W); each pixel of the output sees x in a window alone.

    The window of a pixel is the causal half of a square of side 2 radius + 1 around it (mask A of van den Oord et al.
    2016, "Pixel Recurrent Neural Networks", section 3.4). One linear layer reads it, the same for all pixels, as a
    masked convolution does; the features are added, and layers within each pixel follow. So the window is exact,
    whatever the depth. Channels of one pixel see none of each other.

    Args:
        shape: (C, H, W).
        radius: reach of the window, at least 1; max(H, W) - 1 covers all pixels before.
        width: features.
        depth: layers within a pixel, the last one included, at least 1.
    """

    def __init__(self, shape: tuple[int, ...], radius: int, width: int, depth: int) -> None:
        super().__init__()
        channels, *size = self.shape = tuple(shape)
        self.radius = radius
        self.register_buffer("places", places_before(*size, radius), persistent=False)
        self.window = nn.Linear(channels * self.places.shape[1], width)
        self.hidden = nn.ModuleList(nn.Linear(width, width) for _ in range(depth - 1))
        self.last = nn.Linear(width, channels)

    def forward(self, x: Tensor, features: Tensor) -> Tensor:
        padded = F.pad(x, (self.radius, self.radius, self.radius, 0)).flatten(2)
        seen = padded[:, :, self.places].transpose(1, 2).flatten(2)  # (N, H * W, C * K)
        h = self.window(seen) + features.flatten(1, 2)
        for layer in self.hidden:
            h = h + layer(F.silu(h))
        return self.last(F.silu(h)).transpose(1, 2).unflatten(2, self.shape[1:])

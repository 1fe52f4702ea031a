"""Time and class as features."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from compendium.errors import UserError


class TimeEmbedding(nn.Module):
    """t (B,) in [0, 1] -> (B, width): sines and cosines of geometrically spaced frequencies, then two linear layers.

    Of one number that was expanded to all (B,), as in each step of a sampler, it is computed once: (1, width).

    Args:
        width: number of features.
        frequencies: number of sine-cosine pairs, from pi / 2 to `highest` * pi / 2.
        highest: ratio of the highest to the lowest frequency.
    """

    scales: Tensor

    def __init__(self, width: int, frequencies: int = 16, highest: float = 64.0) -> None:
        super().__init__()
        scales = torch.exp(torch.linspace(0, math.log(highest), frequencies)) * math.pi / 2
        self.register_buffer("scales", scales, persistent=False)
        self.layers = nn.Sequential(nn.Linear(2 * frequencies, width), nn.SiLU(), nn.Linear(width, width))

    def forward(self, t: Tensor) -> Tensor:
        angles = (t[:1] if t.stride() == (0,) else t)[:, None] * self.scales
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Conditioning(nn.Module):
    """What a field is conditioned on, a time, a class, or both, added up. For two times see `with_horizon`.

    Args:
        width: number of features.
        time: whether there is a time.
        classes: number of classes; 0 for none. One more embedding stands for "any class".
    """

    def __init__(self, width: int, time: bool, classes: int) -> None:
        super().__init__()
        self.classes = classes
        self.width = width
        self.time = TimeEmbedding(width) if time else None
        self.horizon: TimeEmbedding | None = None
        self.label = nn.Embedding(classes + 1, width) if classes else None

    def forward(self, t: Tensor | None, y: Tensor | None) -> Tensor | float:
        """t (B,), y int64 (B,) with -1 for any class, None for all of them -> (B, width); 0 without either.

        With a horizon t may be (B, 2), a time and the one to go to; (B,) goes nowhere.
        """
        features: Tensor | float = 0.0
        if self.time is not None:
            assert t is not None, "this network was built with a time"
            t, end = t.unbind(1) if t.dim() == 2 else (t, t)
            features = self.time(t)
            if self.horizon is not None:
                features = features + self.horizon(end)
        if self.label is not None:
            if y is None:
                assert t is not None
                y = torch.full_like(t, -1, dtype=torch.long)
            features = features + self.label(torch.where(y < 0, self.classes, y))
        return features


def with_horizon(net: nn.Module) -> nn.Module:
    """Let a network of a time see a second one beside it, as t (B, 2); it begins as it was, whatever the second is.

    Raises:
        UserError: a network that has no `Conditioning` with a time.
    """
    conditionings = [part for part in net.modules() if isinstance(part, Conditioning) and part.time is not None]
    if not conditionings:
        raise UserError(f"{type(net).__name__} has no time to put a second one beside.", "net=field, net=dit")
    for part in conditionings:
        like = next(part.parameters())
        part.horizon = TimeEmbedding(part.width).to(like)
        for weight in part.horizon.layers[-1].parameters():
            nn.init.zeros_(weight)
    return net

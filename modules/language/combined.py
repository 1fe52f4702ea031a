"""One law of the next token from those of several networks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn


class LogLinear(nn.Module):
    """p(z | s) ~ prod_i p_i(z | s)^(w_i): a log-linear mixture of networks that read the same tokens.

    It has a cache of their caches; a network that has none reads its text again.

    Args:
        nets: map ids (B, T) to logits (B, T, vocabulary), alike in the vocabulary.
        weights: w, one for each, of any sign.
    """

    def __init__(self, nets: Sequence[nn.Module], weights: Sequence[float]) -> None:
        super().__init__()
        self.nets, self.weights = nn.ModuleList(nets), [float(weight) for weight in weights]

    def forward(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> logits (B, T, vocabulary), float32 or more."""
        return self.mixed([net(ids) for net in self.nets])

    def mixed(self, logits: Sequence[Tensor]) -> Tensor:
        """Logits of each network -> their weighted sum: what normalises each of them is the same for all tokens."""
        pairs = zip(self.weights, logits, strict=True)
        return torch.stack([w * each.to(torch.promote_types(each.dtype, torch.float32)) for w, each in pairs]).sum(0)

    def cache(self, rows: int, length: int) -> Caches:
        """See `modules.networks.cache.CachedNet`."""
        each: list[Any] = [net.cache(rows, length) if hasattr(net, "cache") else None for net in self.nets]  # type: ignore[operator]
        device = next(self.parameters()).device
        return Caches(each, torch.zeros(rows, 0, dtype=torch.int64, device=device))

    @torch.no_grad()
    def advance(self, ids: Tensor, cache: Caches, keep: int | None = None) -> Tensor:
        """See `modules.networks.cache.CachedNet`."""
        cache.ids = torch.cat([cache.ids, ids], 1)
        last = ids.shape[1] if keep is None else keep
        return self.mixed([
            net(cache.ids)[:, -last:] if own is None else net.advance(ids, own, keep=keep)  # type: ignore[operator]
            for net, own in zip(self.nets, cache.each, strict=True)
        ])  # fmt: skip


@dataclass
class Caches:
    """The cache of several networks.

    Attributes:
        each: that of each network; None of one that has none.
        ids: what was read, int64 (rows, length), for those.
    """

    each: list[Any]
    ids: Tensor

    @property
    def length(self) -> int:
        """How many tokens of each text were read."""
        return self.ids.shape[1]

    def select(self, rows: Tensor) -> Self:
        """See `modules.networks.cache.Cache`."""
        return type(self)([own and own.select(rows) for own in self.each], self.ids[rows])

    def join(self, other: Self) -> Self:
        """See `modules.networks.cache.Cache`."""
        pairs = zip(self.each, other.each, strict=True)
        return type(self)([own and own.join(new) for own, new in pairs], torch.cat([self.ids, other.ids]))

    def crop(self, length: int) -> None:
        """See `modules.networks.cache.Cache`."""
        for own in self.each:
            if own is not None:
                own.crop(length)
        self.ids = self.ids[:, :length]

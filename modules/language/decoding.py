"""How a token is drawn from what a network says."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from compendium.errors import UserError


@dataclass(frozen=True)
class Decoding:
    """How a token is drawn from the logits of a network.

    Args:
        temperature: the logits are divided by it; 0: the most probable token.
        top_k: only so many of the most probable tokens; None: all.
        top_p: only the most probable tokens that have this probability together (Holtzman et al. 2020); 1: all.

    Raises:
        UserError: a value out of range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0 or not 0 < self.top_p <= 1 or (self.top_k is not None and self.top_k < 1):
            raise UserError(
                f"temperature={self.temperature} top_k={self.top_k} top_p={self.top_p}: "
                "at least 0, at least 1, and in (0, 1]."
            )

    def law(self, logits: Tensor) -> Tensor:
        """Logits (n, vocabulary) -> ln of what tokens are drawn with, float32 (n, vocabulary)."""
        logits = logits.float()
        if self.temperature == 0:
            only = torch.full_like(logits, -torch.inf)
            return only.scatter(1, logits.argmax(1, keepdim=True), 0.0)
        if self.temperature != 1:
            logits = logits / self.temperature
        if self.top_k is not None and self.top_k < logits.shape[1]:
            logits = logits.masked_fill(logits < logits.topk(self.top_k).values[:, -1:], -torch.inf)
        if self.top_p < 1:
            ranked, order = logits.softmax(1).sort(1, descending=True)
            beyond = ranked.cumsum(1) - ranked >= self.top_p
            logits = logits.masked_fill(beyond.gather(1, order.argsort(1)), -torch.inf)
        return logits.log_softmax(1)


def draw(law: Tensor) -> Tensor:
    """ln p (n, vocabulary) -> a token of each row int64 (n, 1).

    The distribution function is inverted, in float64: one uniform number a row, where `multinomial` draws as many as
    there are tokens.
    """
    upto = law.exp().cumsum(1, dtype=torch.float64)
    uniform = torch.rand(len(law), 1, dtype=torch.float64, device=law.device)
    # Of tokens with p = 0 the function is that of the token before: `right` never stops at them.
    return torch.searchsorted(upto, uniform * upto[:, -1:], right=True).clamp_max(law.shape[1] - 1)

"""Residual tokens drawn one after the other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.token_pictures import TokenPictures


class AutoregressiveTokens(TokenPictures):
    """p(tokens | y) = product of p(token | those before it, y), place after place and depth after depth within it.

    What Lee et al. 2022, "Autoregressive Image Generation using Residual Quantization", do with two transformers, one
    over places and one over depths, one transformer does here over all L D tokens.

    Args:
        spec: pictures in classes.
        tokenizer: see `TokenPictures`.
        parts: `net` (a causal transformer over tokens), `optimizer`, `schedule`.
    """

    net_kind = "text"

    def __init__(self, spec: DataSpec | Mapping[str, Any], tokenizer: str | None = None, **parts: Any) -> None:
        super().__init__(spec, tokenizer=tokenizer, **parts)
        self.slots = self.length * self.depth
        # Each depth has words of its own, and so does each class, which comes first.
        self.words = self.depth * self.codes
        self.net = self.build((self.slots,), (self.words + len(self.spec.classes),))

    def text(self, tokens: Tensor) -> Tensor:
        """Tokens (B, L, D) -> words (B, L D)."""
        return (tokens + self.codes * torch.arange(self.depth, device=tokens.device)).flatten(1)

    def log_probs(self, y: Tensor, words: Tensor) -> Tensor:
        """Classes (B,), the first words (B, T) -> ln p of the next token after each, of its depth (B, T + 1, codes)."""
        logits = self.net(torch.cat([self.words + y[:, None], words], 1))[..., : self.words]
        depth = torch.arange(logits.shape[1], device=y.device) % self.depth
        own = logits.unflatten(2, (self.depth, self.codes))
        return own[:, torch.arange(len(depth), device=y.device), depth].float().log_softmax(2)

    def loss(self, batch: Labelled) -> Tensor:
        """Nats per token."""
        tokens = self.tokenizer.tokens(batch.x)
        log_p = self.log_probs(batch.y, self.text(tokens)[:, :-1])
        return F.nll_loss(log_p.flatten(0, 1), tokens.flatten())

    def tokens_of(self, y: Tensor) -> Tensor:
        words = torch.empty(len(y), 0, dtype=torch.long, device=y.device)
        for slot in range(self.slots):
            chosen = torch.multinomial(self.log_probs(y, words)[:, -1].exp(), 1)
            words = torch.cat([words, chosen + self.codes * (slot % self.depth)], 1)
        self.evaluations = self.slots
        return (words % self.codes).unflatten(1, (self.length, self.depth))

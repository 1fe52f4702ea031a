"""The plain language model: next-token likelihood on whatever network reads text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from datamodules.batches import Tokens
from datamodules.spec import DataSpec
from modules.method import Method


class AutoregressiveLanguageModel(Method):
    """p(x_1 ... x_T) = prod_t p(x_t | x_<t) with p(x_t | x_<t) = softmax(net(x)_{t-1}), trained by likelihood.

    loss = -mean over all predicted tokens of ln p(x_t | x_<t), nats per token (Bengio et al. 2003).

    The network maps ids (B, T) to logits (B, T, vocabulary), of which those at t see nothing after t.

    Args:
        spec: text, with the vocabulary of its presentation.
        parts: `net`, `optimizer`, `schedule`, see `Method`.
    """

    batch_type = Tokens
    kinds = ("text",)
    targets = (None,)

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.net = self.build(self.spec.shape, (self.spec.vocabulary,))

    def loss(self, batch: Tokens) -> Tensor:
        logits = self.net(batch.ids[:, :-1])
        return F.cross_entropy(logits.flatten(0, 1), batch.ids[:, 1:].flatten())

    def next_token_log_probs(self, ids: Tensor) -> Tensor:
        """ids int64 (B, T) -> natural log of the next token's probabilities (B, T, vocabulary), float."""
        return self.net(ids).float().log_softmax(2)

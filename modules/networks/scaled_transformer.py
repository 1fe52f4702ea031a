"""Transformer whose weights begin at a scale that suits its width."""

from __future__ import annotations

import math

import torch

from modules.networks.transformer import Transformer

WIDTH = 768
"""GPT-2's smallest width, for which its 0.02 is meant."""


class ScaledTransformer(Transformer):
    """`Transformer` with all matrices sqrt(768 / width) times as large at first: a product with one of them changes the
    scale of its argument as it does in GPT-2 of width 768, however narrow the network is.

    A narrow network at 0.02 begins with embeddings and attention so small that it learns nothing in some hundred steps
    that depends on two tokens at once.

    Args:
        in_shape, out_shape, width, depth, heads, dropout, bias, causal: see `Transformer`.
    """

    @torch.no_grad()
    def initialise(self, depth: int) -> None:
        super().initialise(depth)
        for weight in self.parameters():
            if weight.dim() == 2:
                weight.mul_(math.sqrt(WIDTH / self.features))

"""Words that follow from a picture."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.text import places
from modules.networks.transformer import Block


class CaptionDecoder(nn.Module):
    """One sequence of a picture's patches and then the words of its caption, through causal blocks; the last patch
    predicts the first word, and each word the next one.

    Wang et al. 2022, "GIT: A Generative Image-to-text Transformer for Vision and Language", section 3.1. Deviation: of
    the patches too each sees only those before it.

    Args:
        in_shape: (channels, height, width), divisible by `patch`.
        out_shape: (words,).
        patch: side of a patch.
        width: of a patch and of a word; divisible by `heads`.
        depth: number of blocks.
        heads: of each attention.

    Raises:
        UserError: sizes that do not divide.
    """

    kinds = ("image",)

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int],
        patch: int = 4,
        width: int = 64,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__()
        channels, height, across = in_shape
        if height % patch or across % patch:
            raise UserError(f"net.patch={patch} does not divide pictures of {height} x {across}.")
        if width % heads:
            raise UserError(f"net.heads={heads} do not divide net.width={width}.")
        self.patch = patch
        self.look = nn.Sequential(nn.Linear(channels * patch**2, width), nn.GELU(), nn.Linear(width, width))
        self.where = nn.Parameter(0.02 * torch.randn(height // patch * (across // patch), width))
        self.words = nn.Embedding(out_shape[0], width)
        self.blocks = nn.Sequential(*(Block(width, heads, 0.0, True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.last = nn.Linear(width, out_shape[0])

    def forward(self, x: Tensor, caption: Tensor) -> Tensor:
        """x (B, C, H, W), the words so far int64 (B, T) -> logits of the first T + 1 words (B, T + 1, words)."""
        seen = self.look(F.unfold(x, self.patch, stride=self.patch).transpose(1, 2)) + self.where
        said = self.words(caption)
        h = self.norm(self.blocks(torch.cat([seen, said + places(said)], 1)))
        return self.last(h[:, seen.shape[1] - 1 :])

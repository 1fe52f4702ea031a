"""Transformer over patches of an image that reads a caption."""

from __future__ import annotations

from torch import Tensor, nn

from modules.networks.dit import Block, DiT
from modules.networks.text import CrossAttention, TextEncoder


class TextDiT(DiT):
    """`DiT` whose patches look at the words of a caption before they look at each other, in each block.

    Chen et al. 2023, "PixArt-alpha: Fast Training of Diffusion Transformer for Photorealistic Text-to-Image Synthesis",
    section 2.3. Deviations: attention to the words comes before that to the patches, and its last layer does not start
    at zero; the text encoder is trained along.

    Args:
        in_shape: see `DiT`.
        out_shape: see `DiT`.
        words: number of words that there are, the two special ones included.
        read: blocks of the text encoder, see `TextEncoder`.
        ordered: whether it knows the order of the words.
        tenor: whether the attention to its words does, see `CrossAttention`.
        patch: see `DiT`.
        width: of a patch and of a word.
        depth: see `DiT`.
        heads: see `DiT`.
        time: see `DiT`.

    Raises:
        UserError: sizes that do not divide.
    """

    def __init__(
        self,
        in_shape: tuple[int, int, int],
        out_shape: tuple[int, int, int],
        words: int = 2,
        read: int = 1,
        ordered: bool = True,
        tenor: bool = False,
        patch: int = 2,
        width: int = 64,
        depth: int = 3,
        heads: int = 4,
        time: bool = False,
    ) -> None:
        super().__init__(in_shape, out_shape, patch, width, depth, heads, time)
        self.encoder = TextEncoder(words, width, read, heads, ordered)
        self.blocks = nn.ModuleList(TextBlock(width, heads, tenor) for _ in range(depth))

    def forward(self, x: Tensor, t: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,) if `time`, captions y int64 (B, L), negative for no word -> (B, *out_shape)."""
        h, c, words = self.read(x), self.conditioned(len(x), t, None), self.encoder(y, len(x))
        for block in self.blocks:
            h = block(h, c, words)
        return self.write(h, c)


class TextBlock(Block):
    """The block of `DiT`, with attention to words before it."""

    def __init__(self, width: int, heads: int, tenor: bool) -> None:
        super().__init__(width, heads)
        self.told = CrossAttention(width, width, heads, tenor, width)

    def forward(self, x: Tensor, c: Tensor, words: Tensor) -> Tensor:  # type: ignore[override]
        """x (B, T, width), c (B, width), words (B, L, width) -> (B, T, width)."""
        return super().forward(x + self.told(self.norm(x), words), c)

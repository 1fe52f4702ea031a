"""An autoencoder whose code is a grid of tokens, several deep."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from compendium.errors import UserError
from compendium.extras import require
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import Method


class ResidualVQ(Method):
    """Pictures through a grid of L places with D tokens each: z_i = sum over j of e_j(k_ij), and back.

    The first token of a place is the nearest of `codes` vectors to what the encoder says of it, each further one the
    nearest to what the tokens before it have left over. The loss

        mean |x - decoder(z)|^2  +  commitment  sum over j of mean |r_j - sg e_j(k_ij)|^2

    has its gradient pass through the choice of tokens unchanged; the vectors follow the mean of what chose them.

    Zeghidour et al. 2021, "SoundStream", section III.C; Lee et al. 2022, "Autoregressive Image Generation using
    Residual Quantization". The quantizer is vector-quantize-pytorch's.

    Deviations: (1) one convolution of stride 2 and one residual layer each way, for small pictures; (2) no adversarial
    or perceptual term.

    Args:
        spec: pictures of an even height and width.
        depth: D.
        codes: vectors per depth.
        features: of a vector.
        width: channels of the hidden layers.
        commitment: as above. Default 0.25, van den Oord et al. 2017.
        parts: `optimizer`, `schedule`, see `Method`; there is no `net`.

    Raises:
        UserError: an odd side, no depth, fewer than two codes; MissingExtra: the quantizer is not installed.
    """

    batch_type = Unlabelled
    kinds = ("image",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        depth: int = 4,
        codes: int = 32,
        features: int = 4,
        width: int = 48,
        commitment: float = 0.25,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        channels, height, columns = self.spec.shape
        if height % 2 or columns % 2:
            raise UserError(f"model=generative/residual_vq halves pictures, and these are {height} x {columns}.")
        if depth < 1 or codes < 2:
            raise UserError(f"model.depth={depth} model.codes={codes}: at least 1 and 2.")
        quantizers = require("vector_quantize_pytorch", extra="quantizers", needed_by="model=generative/residual_vq")
        self.depth, self.codes, self.features = depth, codes, features
        self.grid = (height // 2, columns // 2)
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1), Residual(width), nn.Conv2d(width, features, 1)
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(features, width, 3, padding=1),
            Residual(width),
            nn.GELU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        )
        self.quantizer = quantizers.ResidualVQ(
            dim=features,
            num_quantizers=depth,
            codebook_size=codes,
            commitment_weight=commitment,
            kmeans_init=True,
            threshold_ema_dead_code=1,
            rotation_trick=False,
        )

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        quantized, _, commitment = self.quantizer(self.features_of(batch.x))
        error = (self.decoded(quantized) - batch.x).square().mean()
        return {"reconstruction": error, "commitment": commitment.sum()}

    def features_of(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) -> what the encoder says of each place (B, L, features)."""
        return self.encoder(x).flatten(2).mT

    def decoded(self, z: Tensor) -> Tensor:
        """Sums of vectors (B, L, features) -> pictures (B, C, H, W)."""
        return self.decoder(z.mT.unflatten(2, self.grid))

    @torch.no_grad()
    def tokens(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) -> tokens int64 (B, L, D)."""
        return self.quantizer(self.features_of(x))[1]

    def books(self) -> Tensor:
        """The vectors e_j(k) (D, codes, features)."""
        return torch.stack([layer._codebook.embed[0] for layer in self.quantizer.layers])

    def vectors(self, tokens: Tensor) -> Tensor:
        """Tokens int64 (B, L, D) -> their vectors (B, L, D, features)."""
        return self.books()[torch.arange(self.depth, device=tokens.device), tokens]

    @torch.no_grad()
    def reconstruct(self, x: Tensor) -> Tensor:
        """Pictures (B, C, H, W) through their tokens and back."""
        return self.decoded(self.vectors(self.tokens(x)).sum(2))


class Residual(nn.Module):
    """x + convolution(norm(x)), between two activations."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.layer = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, width, H, W) -> the same shape."""
        x = nn.functional.gelu(x)
        return x + self.layer(nn.functional.gelu(self.norm(x)))

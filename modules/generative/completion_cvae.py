"""Completion of pictures by a conditional variational autoencoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Masked
from datamodules.spec import DataSpec
from modules.method import Method


class InpaintingNet(nn.Module):
    """The networks of a completion: what is seen and what is hidden become laws of z; z and what is seen, pictures.

    Args:
        seen: picture and mask (B, C + 1, H, W) -> 2 latent + features.
        hidden: the same -> 2 latent.
        decoder: z and features (B, latent + features) -> (B, C, H, W) before the tanh.
        latent: dimensions of z.
    """

    def __init__(self, seen: nn.Module, hidden: nn.Module, decoder: nn.Module, latent: int) -> None:
        super().__init__()
        self.seen, self.hidden, self.decoder, self.latent = seen, hidden, decoder, latent

    def prior(self, x: Tensor, mask: Tensor) -> tuple[Normal, Tensor]:
        """p(z | seen) (B, latent), and features of what is seen (B, features)."""
        out = self.seen(torch.cat([x * mask, mask], 1))
        return gaussian(out[:, : 2 * self.latent]), out[:, 2 * self.latent :]

    def posterior(self, x: Tensor, mask: Tensor) -> Normal:
        """q(z | hidden) (B, latent)."""
        return gaussian(self.hidden(torch.cat([x * (1 - mask), 1 - mask], 1)))

    def decode(self, z: Tensor, features: Tensor) -> Tensor:
        """z (B, latent), features (B, features) -> pictures in (-1, 1) (B, C, H, W)."""
        return self.decoder(torch.cat([z, features], 1)).tanh()


class CompletionCVAE(Method):
    """A conditional VAE of the hidden part: trained from the truth's law of z, sampled from what is seen.

        rec |x - G(z, seen)|_1 + kl KL(q(z | hidden) | p(z | seen)),    z ~ q(z | hidden)

    with the L1 distance as mean over pixels. To be sampled from p, whose mean and spread are trained along: one truth
    per picture lets q and p shrink together, and draws come out alike (Zheng et al. 2019, section 3.1).

    Sohn et al. 2015, "Learning Structured Output Representation using Deep Conditional Generative Models", equation 4;
    here the baseline of `Pluralistic`, with its networks. Deviations: (1) a Laplace likelihood; (2) q sees the hidden
    part alone, as in Pluralistic Image Completion.

    Args:
        spec: pictures in [-1, 1].
        latent: dimensions of z; 16, our choice for small pictures.
        features: of what is seen, for the decoder; 64, our choice.
        rec: weight of the L1 distance; 20, that of the authors of `Pluralistic`.
        kl: weight of the divergence, per component of z; 20, theirs.
        parts: `net` (for pictures to vectors and back), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: pictures of another range, sizes below 1, negative weights.
    """

    batch_type = Masked
    kinds = ("image",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        latent: int = 16,
        features: int = 64,
        rec: float = 20.0,
        kl: float = 20.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.rec, self.kl = rec, kl
        check_weights(rec=rec, kl=kl)
        self.generator = inpainter(self, latent, features)

    def loss(self, batch: Masked) -> dict[str, Tensor]:
        posterior = self.generator.posterior(*batch)
        prior, features = self.generator.prior(*batch)
        drawn = self.generator.decode(posterior.rsample(), features)
        return {
            "reconstruction": self.rec * F.l1_loss(drawn, batch.x),
            "divergence": self.kl * kl_divergence(posterior, prior).mean(),
        }

    @torch.no_grad()
    def inpaint(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), mask (B, 1, H, W) -> a draw of the whole picture (B, C, H, W)."""
        prior, features = self.generator.prior(x, mask)
        return mask * x + (1 - mask) * self.generator.decode(prior.sample(), features)


def inpainter(method: Method, latent: int, features: int) -> InpaintingNet:
    """The networks of a method, from its config.

    Raises:
        UserError: pictures of another range than that of tanh, sizes below 1.
    """
    if method.spec.bounds != (-1.0, 1.0):
        raise UserError(
            f"{type(method).__name__} draws pictures in [-1, 1], '{method.spec.name}' has bounds {method.spec.bounds}.",
            "datamodule=masked_pictures",
        )
    for name, value in (("latent", latent), ("features", features)):
        if value < 1:
            raise UserError(f"model.{name}={value}: at least one is needed.")
    channels, *sides = method.spec.shape
    return InpaintingNet(
        method.build((channels + 1, *sides), (2 * latent + features,)),
        method.build((channels + 1, *sides), (2 * latent,)),
        method.build((latent + features,), method.spec.shape),
        latent,
    )


def gaussian(out: Tensor) -> Normal:
    """(B, 2 latent) -> independent Gaussians (B, latent)."""
    mean, raw = out.chunk(2, 1)
    return Normal(mean, F.softplus(raw) + 1e-4, validate_args=False)


def check_weights(**weights: float) -> None:
    """Refuse negative weights."""
    for name, weight in weights.items():
        if weight < 0:
            raise UserError(f"model.{name}={weight}: a weight is at least 0.")

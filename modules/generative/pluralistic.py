"""Pluralistic image completion: two paths, so that the draws for one picture differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from datamodules.batches import Masked
from datamodules.spec import DataSpec
from modules.generative.completion_cvae import check_weights, inpainter
from modules.method import AlternatingMethod


class Pluralistic(AlternatingMethod):
    """Two conditional VAE-GANs that share decoder G: one rebuilds the truth, the other only has to look real.

    Reconstructive path, z ~ q(z | hidden):    rec |x - x'|_1 + kl KL(q | N(0, s^2 I)) + adversarial (D'(x') - D'(x))^2
    Generative path, z ~ p(z | seen):          rec |seen (x - x')|_1 + kl KL(q | p) + adversarial (D(x') - 1)^2

    with x' = G(z, seen), and q as it is, without a gradient, in the second divergence. Of the generative path no hidden
    pixel is asked for: its truth is one of many. So q is held wide by s, the wider the larger the hole,

        s = 1 / (1 + exp(8 (v - 0.8)))        (v the share that is seen)

    and p follows q. Both discriminators are trained by least squares, (D(x) - 1)^2 / 2 + D(x')^2 / 2.

    Zheng et al. 2019, "Pluralistic Image Completion", sections 3 and 4, and the authors' code: s, weights and the order
    of the players.

    Deviations: (1) no short+long term attention, which carries texture across large pictures; (2) networks are what the
    config chooses, and one scale of outputs where the authors have four; (3) the divergence of q and N(0, s^2 I) is the
    paper's, where the authors' code has KL(N(0, s^2 I) | q).

    Args:
        spec: pictures in [-1, 1].
        latent: dimensions of z; 16, our choice for small pictures.
        features: of what is seen, for the decoder; 64, our choice.
        rec: weight of the L1 distances; 20 in the authors' code.
        kl: weight of the divergences, per component of z; 20 in the authors' code.
        adversarial: weight of the discriminators' terms; 1 in the authors' code.
        parts: `net` (for pictures to vectors and back), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: pictures of another range, sizes below 1, negative weights.
    """

    batch_type = Masked
    kinds = ("image",)
    turns = ("discriminators", "generator")
    papers = ("zheng2019pluralistic",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        latent: int = 16,
        features: int = 64,
        rec: float = 20.0,
        kl: float = 20.0,
        adversarial: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        check_weights(rec=rec, kl=kl, adversarial=adversarial)
        self.rec, self.kl, self.adversarial = rec, kl, adversarial
        self.generator = inpainter(self, latent, features)
        self.discriminators = nn.ModuleDict({name: self.build(self.spec.shape, (1,)) for name in ("rebuilt", "drawn")})

    def paths(self, batch: Masked) -> tuple[dict[str, Tensor], Normal, Normal]:
        """The pictures of both paths, and q(z | hidden) and p(z | seen)."""
        posterior = self.generator.posterior(*batch)
        prior, features = self.generator.prior(*batch)
        z = torch.cat([posterior.rsample(), prior.rsample()])
        rebuilt, drawn = self.generator.decode(z, features.repeat(2, 1)).chunk(2)
        return {"rebuilt": rebuilt, "drawn": drawn}, posterior, prior

    def play(self, player: str, batch: Masked) -> dict[str, Tensor]:
        return self.discriminate(batch) if player == "discriminators" else self.generate(batch)

    def discriminate(self, batch: Masked) -> dict[str, Tensor]:
        """The discriminators' terms."""
        with torch.no_grad():
            pictures, _, _ = self.paths(batch)
        return {
            f"discriminator_{name}": ((judge(batch.x) - 1).square().mean() + judge(pictures[name]).square().mean()) / 2
            for name, judge in self.discriminators.items()
        }

    def generate(self, batch: Masked) -> dict[str, Tensor]:
        """The terms of encoders and decoder."""
        pictures, posterior, prior = self.paths(batch)
        wide = Normal(torch.zeros_like(posterior.mean), self.spread(batch.mask).expand_as(posterior.mean))
        fixed = Normal(posterior.mean.detach(), posterior.stddev.detach())
        on_rebuilt, on_truth = self.discriminators["rebuilt"](torch.cat([pictures["rebuilt"], batch.x])).chunk(2)
        return {
            "reconstruction": self.rec * F.l1_loss(pictures["rebuilt"], batch.x),
            "seen": self.rec * ((pictures["drawn"] - batch.x) * batch.mask).abs().mean(),
            "divergence": self.kl * kl_divergence(posterior, wide).mean(),
            "coupling": self.kl * kl_divergence(fixed, prior).mean(),
            "like_truth": self.adversarial * (on_rebuilt - on_truth).square().mean(),
            "real": self.adversarial * (self.discriminators["drawn"](pictures["drawn"]) - 1).square().mean(),
        }

    @staticmethod
    def spread(mask: Tensor) -> Tensor:
        """s of each picture (B, 1), from masks (B, 1, H, W)."""
        return torch.sigmoid(-8 * (mask.flatten(1).mean(1, keepdim=True) - 0.8))

    @torch.no_grad()
    def inpaint(self, x: Tensor, mask: Tensor) -> Tensor:
        """x (B, C, H, W), mask (B, 1, H, W) -> a draw of the whole picture (B, C, H, W)."""
        prior, features = self.generator.prior(x, mask)
        return mask * x + (1 - mask) * self.generator.decode(prior.sample(), features)

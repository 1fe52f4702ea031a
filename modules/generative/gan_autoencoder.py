"""Autoencoders whose reconstructions have to look real, and plain ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.bottleneck import bottleneck
from modules.method import AlternatingMethod


class GANAutoencoder(AlternatingMethod):
    """An autoencoder x' = G(E(x)) and a discriminator D of records and reconstructions, which descend in turns

        discriminator   E relu(1 - D(x)) + E relu(1 + D(x'))
        autoencoder     E |x' - x|^2 - adversarial E D(x')

    where |.|^2 is a mean over components. With `adversarial` 0 it is the plain autoencoder of the squared error and has
    no discriminator. The hinge losses and the role of the discriminator are those of Esser et al. 2021, "Taming
    Transformers for High-Resolution Image Synthesis", section 3.1; it is what Birodkar et al. 2024 compare with.

    Deviations: (1) no code book and no perceptual loss; (2) `adversarial` is a number, where it follows a ratio of
    gradients there; (3) networks are what the config chooses.

    Args:
        spec: images or vectors.
        latent: components of E(x).
        adversarial: weight of the discriminator's judgement, at least 0.
        discriminator_optimizer: arguments of the optimizer that differ for the discriminator.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: no component, a negative weight.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    turns: ClassVar[tuple[str, ...]] = ("discriminator", "autoencoder")
    papers = ("birodkar2024sample",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        latent: int = 4,
        adversarial: float = 0.01,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if adversarial < 0:
            raise UserError(f"model.adversarial={adversarial}: a weight is at least 0.")
        self.adversarial, self.discriminator_optimizer = adversarial, discriminator_optimizer or {}
        self.autoencoder = bottleneck(self, latent)
        if adversarial:
            self.discriminator = self.build(self.spec.shape, (1,))
        else:
            self.turns = ("autoencoder",)  # type: ignore[misc]

    def changes(self, player: str) -> Mapping[str, Any]:
        return self.discriminator_optimizer if player == "discriminator" else {}

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        if player == "discriminator":
            with torch.no_grad():
                made = self.autoencoder(batch.x)
            lost = F.relu(1 - self.discriminator(batch.x)) + F.relu(1 + self.discriminator(made))
            return {"discriminator": lost.mean()}
        made = self.autoencoder(batch.x)
        terms = {"reconstruction": (made - batch.x).square().mean()}
        return (
            terms | {"adversarial": -self.adversarial * self.discriminator(made).mean()} if self.adversarial else terms
        )

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> E(x) (B, latent)."""
        return self.autoencoder.encoder(x)

    def reconstruct(self, x: Tensor) -> Tensor:
        """x (B, ...) -> G(E(x)) (B, ...)."""
        return self.autoencoder(x)

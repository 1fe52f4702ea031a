"""Generative adversarial networks: what every game of a generator and a discriminator has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import AlternatingMethod


class Adversarial(AlternatingMethod, ABC):
    """A generator G of records from noise, and a discriminator D that scores how real a record is.

    With x from the data and z ~ N(0, I), in each step D descends, and then G,

        D   E[discriminator_loss(D(x), D(G(z)))] + r1 / 2 E|grad D(x)|^2 + r2 / 2 E|grad D(G(z))|^2
        G   E[generator_loss(D(x), D(G(z)))]

    where grad is with respect to the record: the zero-centred penalties R1 and R2 of Mescheder et al. 2018, "Which
    Training Methods for GANs do actually Converge?", equations 9 and 10. Both players see the same x, each its own z.
    A subclass overrides the two losses.

    Args:
        spec: images or vectors.
        latent: dimensions of z.
        r1: weight of the penalty on the data, at least 0.
        r2: weight of the penalty on the generator's records, at least 0.
        discriminator_optimizer: arguments of the optimizer that differ for the discriminator, such as {lr: 4e-4}.
        parts: `net` (it becomes both networks: noise to record, record to score), `optimizer`, `schedule`, see
            `Method`.

    Raises:
        UserError: no latent dimension, a negative weight.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")
    turns = ("discriminator", "generator")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        latent: int,
        r1: float,
        r2: float,
        discriminator_optimizer: Mapping[str, Any] | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if latent < 1:
            raise UserError(f"model.latent={latent}: the generator needs noise of at least one dimension.")
        for name, weight in (("r1", r1), ("r2", r2)):
            if weight < 0:
                raise UserError(f"model.{name}={weight}: the weight of a penalty is at least 0.")
        self.latent, self.r1, self.r2 = latent, r1, r2
        self.discriminator_optimizer = discriminator_optimizer or {}
        self.generator = self.build((latent,), self.spec.shape)
        self.discriminator = self.build(self.spec.shape, (1,))

    @abstractmethod
    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scores of data and of generated records (B,) each -> what the discriminator descends, per pair (B,)."""

    @abstractmethod
    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        """Scores of data and of generated records (B,) each -> what the generator descends, per pair (B,)."""

    def changes(self, player: str) -> Mapping[str, Any]:
        return self.discriminator_optimizer if player == "discriminator" else {}

    def play(self, player: str, batch: Unlabelled) -> dict[str, Tensor]:
        z = torch.randn(len(batch.x), self.latent, device=batch.x.device, dtype=batch.x.dtype)
        return self.discriminate(batch.x, z) if player == "discriminator" else self.generate(batch.x, z)

    def discriminate(self, real: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The discriminator's terms on data (B, ...) and noise (B, latent)."""
        with torch.no_grad():
            fake = self.generator(z)
        x = torch.cat([real, fake]).requires_grad_()
        scores = self.discriminator(x).squeeze(1)
        terms = {"discriminator": self.discriminator_loss(*scores.chunk(2)).mean()}
        if self.r1 or self.r2:
            on_real, on_fake = squared_slopes(scores, x).chunk(2)
            terms |= {"r1": self.r1 / 2 * on_real.mean(), "r2": self.r2 / 2 * on_fake.mean()}
        return terms

    def generate(self, real: Tensor, z: Tensor) -> dict[str, Tensor]:
        """The generator's term on data (B, ...) and noise (B, latent)."""
        with torch.no_grad():
            on_real = self.discriminator(real).squeeze(1)
        on_fake = self.discriminator(self.generator(z)).squeeze(1)
        return {"generator": self.generator_loss(on_real, on_fake).mean()}

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...)."""
        weight = next(self.generator.parameters())
        return self.generator(torch.randn(n, self.latent, device=weight.device, dtype=weight.dtype))


def squared_slopes(scores: Tensor, x: Tensor) -> Tensor:
    """|d score_i / d x_i|^2 (B,), differentiable, of scores (B,) that depend each on its own record x_i (B, ...)."""
    (slope,) = torch.autograd.grad(scores.sum(), x, create_graph=True)
    return slope.flatten(1).square().sum(1)

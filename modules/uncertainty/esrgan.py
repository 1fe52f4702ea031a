"""ESRGAN with a predictive spread: Monte Carlo dropout and deep ensembles."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Magnified
from datamodules.spec import DataSpec
from modules.method import AlternatingMethod


class UncertainESRGAN(AlternatingMethod):
    """K pairs of a generator G, from coarse to fine pictures, and a discriminator C, each trained on its own:

        G   content |y - G(x)| + perceptual |f(y) - f(G(x))| + adversarial (softplus(C(y) - m') + softplus(m - C(G(x))))
        C   softplus(m' - C(y)) + softplus(C(G(x)) - m)

    all of them means; m is the mean of C(y) over the batch, m' that of C(G(x)), so that a score counts relative to the
    average of the other side. A prediction are T passes of each member, all together: their mean is the picture, their
    standard deviation its uncertainty. With `net.dropout` each pass drops other channels (Monte Carlo dropout), with
    `members` above 1 members differ (deep ensemble).

    Adapa, Zullich and Valdenegro-Toro 2024, "Uncertainty Estimation for Super-Resolution using ESRGAN"; the losses are
    those of Wang et al. 2018, "ESRGAN" (relativistic average GAN of Jolicoeur-Martineau 2018), from memory; abstracts
    alone were at hand.

    Deviations: (1) f are the features of the discriminator after its last block, in the place of VGG's, as there is no
    pretrained network; the gradient does not reach the discriminator. (2) Members see the same batches and differ by
    their weights at the start. (3) Weights of the terms are ours.

    Args:
        spec: coarse pictures.
        factor: how many times finer the output is.
        members: K, at least 1.
        passes: T, at least 1; more than one only makes sense with dropout.
        content: weight of the absolute error, at least 0, as are the others.
        perceptual: of the difference of features.
        adversarial: of the game (ESRGAN: 5e-3).
        discriminator: config of a network with one score and, before its layer `last`, features `body`, such as
            `modules.networks.cnn.CNN`.
        parts: `net` (the generator), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: numbers out of range.
    """

    batch_type = Magnified
    kinds = ("image",)
    turns = ("discriminators", "generators")
    papers = ("adapa2024uncertainty",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        discriminator: Mapping[str, Any],
        factor: int = 2,
        members: int = 1,
        passes: int = 1,
        content: float = 1.0,
        perceptual: float = 0.1,
        adversarial: float = 5e-3,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if members < 1 or passes < 1 or min(content, perceptual, adversarial) < 0:
            raise UserError(
                f"model.members={members} model.passes={passes}: at least 1, and weights of the terms at least 0."
            )
        self.factor, self.members, self.passes = factor, members, passes
        self.content, self.perceptual, self.adversarial = content, perceptual, adversarial
        channels, height, width = self.spec.shape
        fine = (channels, factor * height, factor * width)
        self.generators = nn.ModuleList(self.build(self.spec.shape, fine) for _ in range(members))
        self.discriminators = nn.ModuleList(
            instantiate(discriminator, where="model.discriminator", in_shape=fine, out_shape=(1,))
            for _ in range(members)
        )
        for judge in self.discriminators:
            judge.last.bias.requires_grad_(False)  # it cancels in every difference of scores

    def play(self, player: str, batch: Magnified) -> dict[str, Tensor]:
        term = self.judged if player == "discriminators" else self.improved
        each = [
            term(generator, judge, batch) for generator, judge in zip(self.generators, self.discriminators, strict=True)
        ]
        return {name: torch.stack([terms[name] for terms in each]).sum() for name in each[0]}

    @staticmethod
    def judged(generator: nn.Module, judge: nn.Module, batch: Magnified) -> dict[str, Tensor]:
        """The terms of one discriminator."""
        with torch.no_grad():
            fake = generator(batch.x)
        return {"discriminator": relativistic(judge(batch.high), judge(fake))}

    def improved(self, generator: nn.Module, judge: nn.Module, batch: Magnified) -> dict[str, Tensor]:
        """The terms of one generator."""
        fake = generator(batch.x)
        with torch.no_grad():
            features, real = judge.body(batch.high), judge(batch.high)
        seen = judge.body(fake)
        return {
            "content": self.content * (batch.high - fake).abs().mean(),
            "perceptual": self.perceptual * (features - seen).abs().mean(),
            "adversarial": self.adversarial * relativistic(judge.leave(seen), real),
        }

    def super_resolve(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> T passes of each member (K T, B, C, f H, f W)."""
        return torch.stack([generator(x) for generator in self.generators for _ in range(self.passes)])


def relativistic(higher: Tensor, lower: Tensor) -> Tensor:
    """-E ln sigmoid(a - E b) - E ln(1 - sigmoid(b - E a)) for scores a that should lie above scores b, a scalar."""
    return F.softplus(lower.mean() - higher).mean() + F.softplus(lower - higher.mean()).mean()

"""The non-saturating GAN with a gradient penalty on the data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from torch.nn import functional as F

from datamodules.spec import DataSpec
from modules.generative.adversarial import Adversarial


class NSGAN(Adversarial):
    """Each player does logistic regression: D tells data from generated records, G wants its own taken for data.

        D   softplus(-D(x)) + softplus(D(G(z)))
        G   softplus(-D(G(z)))

    Goodfellow et al. 2014, "Generative Adversarial Nets", section 3 (the generator's loss with strong gradients), with
    the R1 penalty of Mescheder et al. 2018, see `Adversarial`: the baseline of StyleGAN2 and of many others.

    Deviations: none of the losses; networks are what the config chooses.

    Args:
        spec: images or vectors.
        latent: dimensions of z. Default 64, R3GAN's.
        r1: weight of the penalty on the data. Default 10, of Mescheder et al. 2018, section 6.
        r2: weight of the penalty on generated records, which this method does without.
        parts: the arguments of `Adversarial`.
    """

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], latent: int = 64, r1: float = 10.0, r2: float = 0.0, **parts: Any
    ) -> None:
        super().__init__(spec, latent, r1, r2, **parts)

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real) + F.softplus(fake)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-fake)

"""R3GAN: a relativistic pairing GAN with penalties on both sides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.spec import DataSpec
from modules.generative.adversarial import Adversarial


class R3GAN(Adversarial):
    """Scores count only in pairs: D raises the data's above the generated record's, G the other way round.

        D   softplus(-(D(x) - D(G(z)))) + gamma / 2 (|grad D(x)|^2 + |grad D(G(z))|^2)
        G   softplus(-(D(G(z)) - D(x)))

    Each generated record is compared with a data point, so that D's landscape has no basin in which the generator can
    drop a mode at no cost (Sun et al. 2020). Without a penalty the game need not converge; with one it does, locally.
    The second holds D's slope down on the generated records too, while these are still far from the data.

    Huang et al. 2024, "The GAN is dead; long live the GAN! A Modern GAN Baseline": equation 2 with
    f(t) = -log(1 + exp(-t)), penalties R1 and R2 (section 2.2), Proposition 2 (local convergence).

    Deviations: (1) learning rate, beta2, gamma and the EMA's length stay constant, where the authors anneal them over
    their long runs on images; (2) the images' network is smaller and upsamples in another way, see
    `modules.networks.adversarial`.

    Args:
        spec: images or vectors.
        latent: dimensions of z. Default 64, the authors' code.
        r1: gamma of the penalty on the data. Default 1, our choice; it goes with the square of the data's scale.
        r2: gamma of the penalty on generated records; the method has r1 = r2.
        parts: the arguments of `Adversarial`.
    """

    papers = ("huang2024gan",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], latent: int = 64, r1: float = 1.0, r2: float = 1.0, **parts: Any
    ) -> None:
        super().__init__(spec, latent, r1, r2, **parts)
        last = [layer for layer in self.discriminator.modules() if isinstance(layer, nn.Linear)][-1]
        if last.bias is not None:
            last.bias.requires_grad_(False)  # it cancels in every difference of scores

    def discriminator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real)

    def generator_loss(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(real - fake)

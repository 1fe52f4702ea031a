"""Maximum likelihood for singular laws: fit the perturbed data, drop the noise of the model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.latent import GaussianDecoder, LatentVariableModel


class PerturbedLikelihood(LatentVariableModel):
    """Learns p(x) = int N(x; f(z), sigma^2 I) p(z) dz from x + s0 e, e ~ N(0, I), and samples f(z).

    Data on a set of lower dimension have no density: the likelihood grows without bound as sigma falls to 0 wherever
    f(z) meets a record, however wrong the law of f(z) is between them. Perturbed data have a density. Their law is that
    of the data convolved with N(0, s0^2 I), so that with sigma = s0 the law of f(z) is that of the data. s0 trades the
    conditioning of the likelihood for the blur that has to be deconvolved: W1 is U-shaped in it.

    Chae et al. 2023, "A Likelihood Approach to Nonparametric Estimation of a Singular Distribution Using Deep
    Generative Models". Here the (sieve) maximum likelihood estimate is that of the importance weighted bound.

    Deviations: (1) the noise is drawn anew in each step, where the estimate of the paper is of records that are
    perturbed once; (2) the sieve is the network's architecture and the optimizer's budget, without bounds on weights;
    (3) the paper's choices of networks and of K could not be looked up.

    Args:
        spec: images or vectors.
        perturbation: s0, in the units of the records, at least 0; 0 is plain maximum likelihood.
        std: sigma at the start; it is learned. Default 1: the records' scale where they are standardised.
        latent: dimensions of z, at least those of the set that the data lie on.
        importance: K of the bound.
        parts: the arguments of `LatentVariableModel`.

    Raises:
        UserError: a negative perturbation, a std that is not positive.
    """

    papers = ("chae2023likelihood",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        perturbation: float = 0.1,
        std: float = 1.0,
        latent: int = 2,
        importance: int = 10,
        **parts: Any,
    ) -> None:
        if perturbation < 0 or std <= 0:
            raise UserError(
                f"model.perturbation={perturbation} is at least 0 and model.std={std} above it: standard deviations."
            )
        self.std = std
        super().__init__(spec, latent, importance, **parts)
        self.perturbation = perturbation

    def build_decoder(self) -> GaussianDecoder:
        return GaussianDecoder(self.build((self.latent,), self.spec.shape), self.std)

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        return super().loss(Unlabelled(batch.x + self.perturbation * torch.randn_like(batch.x)))

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...) of f(z), without the noise of the model."""
        return self.decoder.net(self.prior.sample(n))

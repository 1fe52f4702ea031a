"""Variational autoencoder, with one importance sample or more."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.latent import (
    BernoulliDecoder,
    Decoder,
    GaussianDecoder,
    LatentVariableModel,
    check_binary,
)


class VAE(LatentVariableModel):
    """Independent components given z: Bernoulli for binary records, Gaussian with one learned sigma for others.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes"; with `importance` above 1 it is the IWAE of Burda et al.
    2016. See `LatentVariableModel` for the bound.

    Args:
        spec: images or vectors.
        likelihood: `bernoulli` or `gaussian`.
        std: sigma of the Gaussian decoder at the start; it is learned.
        parts: the arguments of `LatentVariableModel`.

    Raises:
        UserError: an unknown likelihood, a Bernoulli one for records that are not binary, a std that is not positive.
    """

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], likelihood: str = "bernoulli", std: float = 1.0, **parts: Any
    ) -> None:
        if likelihood not in ("bernoulli", "gaussian"):
            raise UserError(f"model.likelihood={likelihood} is unknown.", "there are: bernoulli, gaussian")
        if std <= 0:
            raise UserError(f"model.std={std}: a standard deviation is above 0.")
        self.likelihood, self.std = likelihood, std
        super().__init__(spec, **parts)

    def build_decoder(self) -> Decoder:
        if self.likelihood == "bernoulli":
            check_binary(self.spec, "model.likelihood=bernoulli")
            return BernoulliDecoder(self.build((self.latent,), self.spec.shape))
        return GaussianDecoder(self.build((self.latent,), self.spec.shape), self.std)

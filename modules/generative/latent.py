"""Latent variable models: bounds by importance sampling, with pluggable decoders and priors."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from compendium.extras import require
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.method import Method

LOG_2PI = math.log(2 * math.pi)


class LatentVariableModel(Method, ABC):
    """p(x) = int p(x|z) p(z) dz, learned through a Gaussian approximation q(z|x) of the posterior.

    With z_1 ... z_K ~ q(z|x) and w_k = p(x|z_k) p(z_k) / q(z_k|x), for every K

        E log(1/K sum_k w_k)  <=  log p(x)

    which for K = 1 is the ELBO, E log p(x|z) - KL(q(z|x) | p(z)), and tightens as K grows. It is what training ascends,
    by reparametrised draws. It bounds the likelihood and is none: there is no `log_prob` here, but `log_weights`, from
    which the evaluation `bound` makes its figures.

    Kingma and Welling 2014, "Auto-Encoding Variational Bayes", equation 3 and appendix C.2 (Gaussian encoder); Burda et
    al. 2016, "Importance Weighted Autoencoders", equation 8 and Theorem 1.

    A subclass says what the decoder is.

    Args:
        spec: images or vectors.
        latent: dimensions of z.
        importance: K in training.
        prior: `normal`, N(0, I), or `flow`, a masked autoregressive flow, see `FlowPrior`.
        flow: arguments of `FlowPrior`; None with another prior.
        free_nats: the KL term of the ELBO counts only above this many nats, in the mean over the batch: below it, there
            is nothing to gain from forgetting x (Kingma et al. 2016, appendix C.8). 0: the ELBO itself.
        parts: `net` (record to 2 `latent`, and what the decoder needs), `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown prior, no latent dimension, no importance sample, free nats with K > 1.
    """

    batch_type = Unlabelled
    kinds = ("image", "vector")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        latent: int = 8,
        importance: int = 1,
        prior: str = "normal",
        flow: Mapping[str, Any] | None = None,
        free_nats: float = 0.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        for name, value in (("latent", latent), ("importance", importance)):
            if value < 1:
                raise UserError(f"model.{name}={value}: it is at least 1.")
        if prior not in ("normal", "flow"):
            raise UserError(f"model.prior={prior} is unknown.", "there are: normal, flow")
        if free_nats < 0 or (free_nats and importance > 1):
            raise UserError(
                f"model.free_nats={free_nats} with model.importance={importance}: free nats are a floor of at least 0 "
                "under the KL term, which only the bound of one sample has.",
                "model.importance=1, or model.free_nats=0",
            )
        self.latent, self.importance, self.free_nats = latent, importance, free_nats
        self.encoder = self.build(self.spec.shape, (2 * latent,))
        self.decoder = self.build_decoder()
        self.prior: Prior = FlowPrior(latent, **(flow or {})) if prior == "flow" else NormalPrior(latent)

    @abstractmethod
    def build_decoder(self) -> Decoder:
        """The decoder p(x|z)."""

    def posterior(self, x: Tensor) -> torch.distributions.Normal:
        """q(z|x) of x (B, ...): independent Gaussians (B, latent)."""
        mean, raw = self.encoder(x).chunk(2, dim=1)
        return torch.distributions.Normal(mean, F.softplus(raw) + 1e-4, validate_args=False)

    def log_weights(self, x: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """x (B, ...) -> log p(x|z) and log q(z|x) - log p(z), (k, B) each, at k draws z ~ q(z|x) per record."""
        q = self.posterior(x)
        z = q.rsample((k,))
        rows = z.flatten(0, 1)
        likelihood = self.decoder.log_prob(x, z).view(k, -1)
        return likelihood, q.log_prob(z).sum(2) - self.prior.log_prob(rows).view(k, -1)

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        likelihood, rate = self.log_weights(batch.x, self.importance)
        if self.importance == 1:
            return {"reconstruction": -likelihood.mean(), "rate": rate.mean().clamp_min(self.free_nats)}
        return {"bound": -log_mean_exp(likelihood - rate).mean()}

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, ...) of p(x)."""
        return self.decoder.sample(self.prior.sample(n))

    def embed(self, x: Tensor) -> Tensor:
        """x (B, ...) -> mean of q(z|x) (B, latent)."""
        return self.posterior(x).mean


def log_mean_exp(log_weights: Tensor) -> Tensor:
    """(K, ...) -> log of the mean over K (...)."""
    return log_weights.logsumexp(0) - math.log(len(log_weights))


# Decoders


class Decoder(nn.Module, ABC):
    """p(x|z)."""

    @abstractmethod
    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        """x (B, ...), z (K, B, latent) -> log p(x_b|z_kb), nats (K * B,)."""

    @abstractmethod
    def sample(self, z: Tensor) -> Tensor:
        """z (n, latent) -> a draw of x for each (n, ...)."""


class BernoulliDecoder(Decoder):
    """Independent components in {0, 1}.

    Args:
        net: z (N, latent) -> logits (N, ...).
    """

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        return bernoulli(self.net(z.flatten(0, 1)), repeated(x, len(z)))

    def sample(self, z: Tensor) -> Tensor:
        return torch.bernoulli(self.net(z).sigmoid())


class GaussianDecoder(Decoder):
    """N(f(z), sigma^2 I) with one learned sigma.

    Args:
        net: f, z (N, latent) -> (N, ...).
        std: sigma at the start; 1 is the records' scale where they are standardised.
    """

    def __init__(self, net: nn.Module, std: float = 1.0) -> None:
        super().__init__()
        self.net = net
        self.log_std = nn.Parameter(torch.tensor(math.log(std)))

    def log_prob(self, x: Tensor, z: Tensor) -> Tensor:
        gap = (repeated(x, len(z)) - self.net(z.flatten(0, 1))).flatten(1)
        return -0.5 * (gap / self.log_std.exp()).square().sum(1) - gap.shape[1] * (self.log_std + LOG_2PI / 2)

    def sample(self, z: Tensor) -> Tensor:
        mean = self.net(z)
        return mean + self.log_std.exp() * torch.randn_like(mean)


def repeated(x: Tensor, k: int) -> Tensor:
    """(B, ...) -> (k * B, ...)."""
    return x.expand(k, *x.shape).flatten(0, 1)


def bernoulli(logits: Tensor, x: Tensor) -> Tensor:
    """Logits (N, ...) and x (N, ...) in {0, 1} -> log-likelihood of each record, nats (N,)."""
    return -F.binary_cross_entropy_with_logits(logits, x, reduction="none").flatten(1).sum(1)


def check_binary(spec: DataSpec, who: str) -> None:
    """Refuse records whose components are not 0 or 1.

    Raises:
        UserError: which data would do.
    """
    if spec.levels != 2 or spec.bounds != (0.0, 1.0):
        raise UserError(
            f"{who} needs components that are 0 or 1; those of '{spec.name}' are not.",
            "data=binary_digits datamodule.scale=none datamodule.dequantize=false, or a Gaussian decoder",
        )


# Priors


class Prior(nn.Module, ABC):
    """p(z)."""

    @abstractmethod
    def log_prob(self, z: Tensor) -> Tensor:
        """z (N, latent) -> log density (N,)."""

    @abstractmethod
    def sample(self, n: int) -> Tensor:
        """n draws (n, latent)."""


class NormalPrior(Prior):
    """N(0, I)."""

    def __init__(self, latent: int) -> None:
        super().__init__()
        self.register_buffer("zero", torch.zeros(latent), persistent=False)  # knows the device and the precision

    def log_prob(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + LOG_2PI).sum(1)

    def sample(self, n: int) -> Tensor:
        return torch.randn(n, len(self.zero), device=self.zero.device, dtype=self.zero.dtype)


class FlowPrior(Prior):
    """A masked autoregressive flow: e_i = (z_i - m_i(z_<i)) / s_i(z_<i) is standard normal, several times over.

    Its density takes one pass, and it is the same model as a standard normal prior with an inverse autoregressive flow
    in the posterior (Chen et al. 2017, section 3.2). Built by zuko.

    Args:
        latent: dimensions of z.
        transforms: autoregressive transforms, each in the reverse order of the one before.
        hidden: units of the two hidden layers of each.

    Raises:
        MissingExtra: zuko is not installed.
    """

    def __init__(self, latent: int, transforms: int = 2, hidden: int = 64) -> None:
        super().__init__()
        zuko = require("zuko", extra="flows", needed_by="model.prior=flow")
        self.flow = zuko.flows.MAF(latent, transforms=transforms, hidden_features=[hidden, hidden])

    def log_prob(self, z: Tensor) -> Tensor:
        return self.flow().log_prob(z)

    def sample(self, n: int) -> Tensor:
        return self.flow().sample((n,))

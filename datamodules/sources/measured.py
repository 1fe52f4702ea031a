"""What is left to know of a record after a noisy linear measurement."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.densities import Drawn, GaussianMixture


class CorrelatedMixture:
    """p(x) = sum_k weight_k N(x; mean_k, covariance_k). A `Truth`.

    Args:
        means: (K, D).
        covariances: (K, D, D).
        weights: (K,), normalized here.
    """

    def __init__(self, means: Tensor, covariances: Tensor, weights: Tensor) -> None:
        self.means, self.covariances = means.double(), covariances.double()
        self.weights = weights.double() / weights.double().sum()
        self.factors = torch.linalg.cholesky(self.covariances)

    def joint(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, D) -> log of weight and density (B, K), and inverse covariance times offset to the means (B, K, D)."""
        offset = (self.means - x.double()[:, None])[..., None]
        pull = torch.cholesky_solve(offset, self.factors)
        log_volume = self.factors.diagonal(dim1=1, dim2=2).log().sum(1) + 0.5 * x.shape[1] * math.log(2 * math.pi)
        return self.weights.log() - log_volume - 0.5 * (offset * pull).sum((2, 3)), pull[..., 0]

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density (B,)."""
        return self.joint(x)[0].logsumexp(1).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """x (B, D) -> gradient of the log density (B, D)."""
        joint, pull = self.joint(x)
        return torch.einsum("bk,bkd->bd", joint.softmax(1), pull).to(x.dtype)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, D), float32."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], 1, generator=generator, dtype=torch.float64)
        return (self.means[chosen] + (self.factors[chosen] @ noise)[..., 0]).float()


class Measured(Drawn):
    """Records x given y = A x + noise e, e ~ N(0, I), where the law of x is a known mixture of isotropic Gaussians.

    By Bayes' rule for Gaussians the law of x given y is a mixture too: with s^2 the variance of a component, mean m and
    weight w, and S = s^2 A A' + noise^2 I,

        mean m + s^2 A' S^-1 (y - A m),   covariance s^2 I - s^4 A' S^-1 A,   weight w N(y; A m, S), up to a factor.

    Args:
        source: config of the source of the law before the measurement.
        operator: A, a list of rows.
        measurement: y, a list; None: that of a record drawn from the law, a function of the seed.
        noise: standard deviation of the noise.
        parts: the arguments of `Drawn`.

    Raises:
        UserError: another law, shapes that do not fit, no noise.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        operator: Sequence[Sequence[float]],
        measurement: Sequence[float] | None = None,
        noise: float = 0.5,
        **parts: int,
    ) -> None:
        super().__init__(**parts)
        if noise <= 0:
            raise UserError(f"data.noise={noise}: a standard deviation above 0.")
        self.source, self.noise, self.given = source, noise, measurement
        self.operator = torch.tensor([list(row) for row in operator], dtype=torch.float64)

    def prior(self) -> GaussianMixture:
        """The law of x before the measurement."""
        law = instantiate(self.source, where="data.source").law()
        if not isinstance(law, GaussianMixture):
            raise UserError(
                "data.source has no law that is a mixture of Gaussians.", "choose ring, moons, mixture, ..."
            )
        if law.means.shape[1] != self.operator.shape[1]:
            raise UserError(
                f"data.operator has {self.operator.shape[1]} columns for records of {law.means.shape[1]} components."
            )
        return law

    def measurement(self, law: GaussianMixture) -> Tensor:
        """y (M,), float64, of the law of x."""
        if self.given is not None:
            if len(self.given) != len(self.operator):
                raise UserError(f"data.measurement has {len(self.given)} numbers for {len(self.operator)} rows.")
            return torch.tensor(list(self.given), dtype=torch.float64)
        draw = generator(self.seed, "measured", "truth")
        x = law.sample(1, draw)[0].double()
        return self.operator @ x + self.noise * torch.randn(len(self.operator), generator=draw, dtype=torch.float64)

    def law(self) -> CorrelatedMixture:
        prior, a = self.prior(), self.operator
        variance = prior.std.square()[:, None, None]
        spread = variance * a @ a.T + self.noise**2 * torch.eye(len(a), dtype=torch.float64)  # (K, M, M)
        gain = variance * a.T @ torch.linalg.inv(spread)  # (K, D, M)
        residual = self.measurement(prior) - prior.means @ a.T  # (K, M)
        mean = prior.means + (gain @ residual[..., None])[..., 0]
        covariance = variance * (torch.eye(a.shape[1], dtype=torch.float64) - gain @ a)
        evidence = torch.distributions.MultivariateNormal(torch.zeros(len(a)).double(), spread).log_prob(residual)
        return CorrelatedMixture(mean, covariance, (prior.weights.log() + evidence).softmax(0))

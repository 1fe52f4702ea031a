"""A diffusion model as the prior of an inverse problem, and a flow as its posterior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.extras import require
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian import likelihood
from modules.generative.gaussian.checkpoints import opened_for
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.mixtures import MixtureDenoiser
from modules.generative.gaussian.paths import Path
from modules.generative.measurement import LogLikelihood
from modules.method import Method

PRIORS = ("score", "gaussian")


class ScorePrior(Method):
    """Fits a flow q to the law of x given one measurement y = A x + noise e, with a score-based prior p:

        minimise   E_q[|y - A x|^2 / (2 noise^2) - ln p(x) + ln q(x)] = KL(q | p(x | y)) + constant

    ln p(x) is the density under the probability flow of a diffusion model, differentiated through the solver's steps.
    Nothing weighs prior against data. q is a RealNVP of zuko's. Records of the data are not looked at: they are the
    truth that draws of q are compared with.

    Feng et al. 2023, "Score-Based Diffusion Models as Principled Priors for Inverse Imaging", sections 3 and 4 (after
    deep probabilistic imaging, Sun and Bouman 2021).

    Deviations: (1) Runge and Kutta's method of fixed steps for the flow; theirs adapts its steps. (2) The divergence is
    exact up to `exact_trace` dimensions; theirs is Hutchinson's estimate. (3) y is one vector of a linear measurement.

    Args:
        spec: vectors.
        problem: config of `datamodules.sources.measured.Measured`: A, y and the noise, `"model.problem=${data}"`.
        prior: `score`, or `gaussian` with the mean and covariance of the problem's law before the measurement.
        checkpoint: of a diffusion model of that law; None: its exact field.
        path: config of the path of the exact field.
        likelihood_steps: of the solver, four evaluations each.
        exact_trace: dimensions up to which the divergence is exact.
        transforms: couplings of the flow.
        width: units of the couplings' two hidden layers.
        parts: `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown prior, a problem of another kind, no transform.
    """

    batch_type = Unlabelled
    kinds = ("vector",)
    papers = ("feng2023score",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        problem: Mapping[str, Any],
        path: Mapping[str, Any],
        prior: str = "score",
        checkpoint: str | None = None,
        likelihood_steps: int = 8,
        exact_trace: int = likelihood.EXACT_TRACE,
        transforms: int = 6,
        width: int = 64,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if prior not in PRIORS:
            raise UserError(f"model.prior={prior} is unknown.", f"there are: {', '.join(PRIORS)}")
        if min(transforms, width, likelihood_steps) < 1:
            raise UserError(f"model.transforms={transforms} model.width={width}: at least 1.")
        self.log_likelihood = LogLikelihood(problem)
        law = self.log_likelihood.law
        self.prior, self.checkpoint = prior, checkpoint
        self.path: Path = instantiate(path, where="path")
        self.denoiser = MixtureDenoiser(law.means, law.std[:, None], law.weights)
        self.likelihood_steps, self.exact_trace = likelihood_steps, exact_trace
        mean = law.weights @ law.means
        offset = law.means - mean
        covariance = (law.weights * law.std.square()).sum() * torch.eye(len(mean)).double()
        covariance = covariance + torch.einsum("k,ki,kj->ij", law.weights, offset, offset)
        self.gaussian = torch.distributions.MultivariateNormal(mean, covariance)
        flows = require("zuko", extra="flows", needed_by="model=generative/score_prior").flows
        self.flow = flows.RealNVP(self.spec.dimensions, transforms=transforms, hidden_features=(width, width))

    def field(self, like: Tensor) -> Field:
        """The prior's field, where and as precise as records."""
        if self.checkpoint is not None:
            model = opened_for(self.checkpoint, like)
            return Field(model.path, model.denoise)
        path = self.path
        return Field(path, lambda x, t: self.denoiser.denoise(x, path.alpha(t), path.sigma(t)))

    def log_prior(self, x: Tensor) -> Tensor:
        """ln p(x) (B,) of x (B, D)."""
        if self.prior == "gaussian":
            return self.gaussian.log_prob(x.double()).to(x)
        return likelihood.log_prob(self.field(x), x, self.likelihood_steps, self.exact_trace)

    def loss(self, batch: Unlabelled) -> dict[str, Tensor]:
        x, log_q = self.flow().rsample_and_log_prob((len(batch.x),))
        return {
            "data": -self.log_likelihood(x).mean(),
            "prior": -self.log_prior(x).mean(),
            "entropy": log_q.mean(),
        }

    @torch.no_grad()
    def sample(self, n: int) -> Tensor:
        """n draws (n, D) of the posterior."""
        return self.flow().sample((n,))

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of q (B,)."""
        return self.flow().log_prob(x)

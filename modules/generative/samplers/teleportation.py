"""Analytical teleportation: the first steps in one, by the flow of a Gaussian."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from modules.generative.gaussian.checkpoints import opened
from modules.generative.gaussian.field import Field
from modules.generative.samplers.base import Sampler


class Teleportation(Sampler):
    """Skips the noisiest steps, where a learned score is that of the Gaussian with the data's mean and covariance: its
    flow is known.

    In y = x / alpha and r = sigma / alpha, with mean m and covariance sum_k l_k u_k u_k',

        y(r) = m + sum_k sqrt((l_k + r^2) / (l_k + r_0^2)) u_k u_k' (y(r_0) - m)

    carries noise from the first time to another; the solver goes on from there.

    Wang and Vastola 2024, "The Unreasonable Effectiveness of Gaussian Score Approximation for Diffusion Models and its
    Applications": the closed-form solution and analytical teleportation.

    Args:
        gaussian: checkpoint of a `generative/analytic_diffusion` with law=gaussian, which holds mean and covariance.
        skip: share of the steps that are skipped, from 0 to below 1. Default 0.3; the paper skips 15% to 30%.
        solver: config of the sampler that goes on.
        parts: the arguments of `Sampler`.

    Raises:
        UserError: a share out of range, a checkpoint without a Gaussian.
    """

    papers = ("wang2024unreasonable",)

    def __init__(self, gaussian: str, solver: Mapping[str, Any], skip: float = 0.3, **parts: Any) -> None:
        super().__init__(**parts)
        if not 0 <= skip < 1:
            raise UserError(f"sampler.skip={skip}: a share of the steps, from 0 to below 1.")
        self.path, self.skip = gaussian, skip
        self.solver: Sampler = instantiate(solver, where="sampler.solver")
        self.moments: tuple[Tensor, Tensor, Tensor] | None = None

    def step(self, field: Field, x: Tensor, s: Tensor, t: Tensor, memory: dict[str, Any]) -> Tensor:
        """x at time s -> x at time t along the Gaussian's flow."""
        mean, variances, vectors = (part.to(x) for part in self.moments or self.load())
        path = field.path
        before, after = path.noise_ratio(s).square(), path.noise_ratio(t).square()
        shrink = ((variances + after) / (variances + before)).sqrt().to(x)
        offset = x.flatten(1) / path.alpha(s) - mean
        return (path.alpha(t) * (mean + (offset @ vectors * shrink) @ vectors.T)).view_as(x)

    def sample(self, field: Field, x: Tensor, times: Tensor) -> Tensor:
        first = round(self.skip * (len(times) - 1))
        x = self.step(field, x, times[0], times[first], {}) if first else x
        return self.solver.sample(field, x, times[first:])

    def load(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, variances and directions of the checkpoint."""
        model = opened(self.path)
        law = getattr(model, "law", type(model).__name__)
        if law != "gaussian":
            raise UserError(f"sampler.gaussian={self.path} holds the law '{law}'.", "train it with law=gaussian")
        self.moments = model.mean, model.stds.square(), model.vectors
        return self.moments

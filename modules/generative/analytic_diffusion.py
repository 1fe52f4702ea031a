"""Diffusion without a network: the exact denoiser of a law that is known, or that was fitted in closed form."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.sources.densities import GaussianMixture
from datamodules.spec import DataSpec
from modules.generative.gaussian.mixtures import MixtureDenoiser
from modules.generative.gaussian.model import GaussianModel
from modules.method import SolvedMethod

LAWS = ("gaussian", "records", "exact")
SMALLEST_STD = 1e-6
"""Standard deviations below this are those of a constant component."""


class AnalyticDiffusion(GaussianModel, SolvedMethod):
    """Samples any mixture of Gaussians through its own exact E[x_0 | x_t]: what a perfectly trained model would do.

    The law is one of

    - `gaussian`: mean and covariance of the training records, the linear score of Wang and Vastola 2024;
    - `records`: the training records themselves, the score that a network without limits would learn, and whose draws
      are the training records again;
    - `exact`: the mixture that a source draws from, `law=exact source=${data}`; its classes are the model's classes.

    Errors of draws are then the sampler's, the schedule's or the guidance's alone.

    Args:
        spec: images or vectors.
        law: `gaussian`, `records` or `exact`.
        source: config of the source whose law is `exact`; for that law alone.
        label: the one class that `sample` draws, -1 for the law of all classes without asking for any; None: classes as
            frequent as in the law, where it has any.
        parts: the arguments of `GaussianModel`.

    Raises:
        UserError: an unknown law, a source without a known mixture.
    """

    batch_type = Unlabelled
    rows: Tensor
    seen: Tensor
    total: Tensor
    products: Tensor
    mean: Tensor
    stds: Tensor
    vectors: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        law: Literal["gaussian", "records", "exact"] = "gaussian",
        source: Mapping[str, Any] | None = None,
        label: int | None = None,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if law not in LAWS:
            raise UserError(f"model.law={law} is unknown.", f"there are: {', '.join(LAWS)}")
        if (law == "exact") != (source is not None):
            raise UserError(f"model.law={law} model.source={source}: the exact law, and no other, is that of a source.")
        self.law, self.label = law, label
        size = self.spec.dimensions
        self.register_buffer("seen", torch.zeros((), dtype=torch.long))
        self.labels: Tensor | None = None
        self.exact: MixtureDenoiser | None = None
        if law == "exact":
            self.exact, self.labels = mixture_of(source or {})
        elif law == "records":
            self.register_buffer("rows", torch.zeros(self.spec.sizes.get("train", 0), size))
        else:
            for name, shape in (("total", size), ("mean", size), ("stds", size)):
                self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
            for name in ("products", "vectors"):
                self.register_buffer(name, torch.zeros(size, size, dtype=torch.float64))

    # Solving

    def accumulate(self, batch: Unlabelled) -> None:
        x = batch.x.flatten(1)
        if self.law == "records":
            x = self.rows_of_all(x)[: len(self.rows) - int(self.seen)]
            self.rows[int(self.seen) : int(self.seen) + len(x)] = x
        if self.law == "gaussian":
            self.total += x.double().sum(0)
            self.products += x.double().T @ x.double()
        self.seen += len(x)

    def solve(self) -> None:
        if self.law != "gaussian":
            return
        count = self.sum_of_all(self.seen.double())
        mean = self.sum_of_all(self.total) / count
        variances, vectors = torch.linalg.eigh(self.sum_of_all(self.products) / count - mean.outer(mean))
        self.mean.copy_(mean)
        self.stds.copy_(variances.clamp_min(SMALLEST_STD**2).sqrt())
        self.vectors.copy_(vectors)

    # The field

    @property
    def denoiser(self) -> MixtureDenoiser:
        """The exact denoiser of the law."""
        if self.exact is not None:
            return self.exact.to(self.seen.device)
        if self.law == "records":
            known = self.rows[: int(self.seen)]
            return MixtureDenoiser(known, known.new_zeros(len(known), 1), known.new_ones(len(known)))
        return MixtureDenoiser(self.mean[None], self.stds[None], self.stds.new_ones(1), self.vectors[None])

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        alpha, sigma = self.path.alpha(t), self.path.sigma(t)
        return self.denoiser.denoise(x.flatten(1), alpha, sigma, self.components(y)).view_as(x)

    def components(self, y: Tensor | None) -> Tensor | None:
        """Which components (B, K) belong to the classes y (B,); all of them where y is -1 or there are no classes."""
        if y is None or self.labels is None:
            return None
        return (self.labels.to(y.device) == y[:, None]) | (y < 0)[:, None]

    def sample(self, n: int) -> Tensor:
        """n draws (n, ...), of the classes that `label` says."""
        return self.draw(self.field(), n) if self.labels is None else self.sample_of(self.classes(n))

    def classes(self, n: int) -> Tensor:
        """n classes int64 (n,)."""
        assert self.labels is not None
        if self.label is not None:
            return torch.full((n,), self.label, device=self.seen.device)
        chosen = torch.multinomial(self.denoiser.log_weights.exp(), n, replacement=True)
        return self.labels.to(chosen.device)[chosen]

    def sample_of(self, y: Tensor) -> Tensor:
        """Draws (B, ...) of the classes y int64 (B,)."""
        return self.draw(self.field(y), len(y))

    @property
    def like(self) -> Tensor:
        return torch.empty(0, device=self.seen.device)


def mixture_of(source: Mapping[str, Any]) -> tuple[MixtureDenoiser, Tensor | None]:
    """The denoiser of the law that a source's config draws from, and the classes of its components.

    Raises:
        UserError: its law is no known mixture of Gaussians.
    """
    truth = instantiate(source, where="model.source").load().truth
    if not isinstance(truth, GaussianMixture):
        raise UserError(
            "model.source has no law that is a mixture of Gaussians.", "choose ring, mixture, gaussians, ..."
        )
    return MixtureDenoiser(truth.means, truth.std[:, None], truth.weights), truth.labels

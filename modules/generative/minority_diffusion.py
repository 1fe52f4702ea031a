"""Minority guidance: draws of the rare records that a diffusion model knows, but seldom draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.noisy import noised
from modules.generative.judged import JudgedDiffusion


class MinorityDiffusion(JudgedDiffusion):
    """A trained model beside a classifier of how rare a noisy record is, for `guidance=minority`.

    Tweedie's formula, E[x_0 | x_t], brings a common record back from noise, and takes a rare one for a common one:

        l(x_0) = E |x_0 - E[x_0 | x_t]|,     x_t = alpha x_0 + sigma eps at one time t

    is a record's minority score. Training records fall into `levels` classes by the quantiles of their scores, the last
    being the rarest; a classifier learns p(level | x_t) at all times, and guides towards a level of one's choice.

    Um et al. 2024, "Don't Play Favorites: Minority Guidance for Diffusion Models", section 3, equations 7 and 8.

    Deviations: (1) the distance is Euclidean, where the paper has LPIPS for pictures; (2) all records meet the same
    `probes` draws of eps, so that a score is a function of its record and need not be stored; the authors draw anew for
    each; (3) quantiles are those of at most 10000 training records; (4) the classifier sees x_t, in place of
    the features of an ImageNet classifier that the authors use for large pictures.

    Args:
        spec: images or vectors.
        model: checkpoint, see `JudgedDiffusion`.
        levels: classes by quantile. The authors have 100; default 10, for thousands of records.
        perturbation: t, as a share of the path. Default 0.6, the authors' 60 of 100 steps of `path=vp`.
        probes: draws of eps. Default 5, the authors'.
        times: see `JudgedDiffusion`.
        data_std: see `JudgedDiffusion`.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.

    Raises:
        UserError: a model on another path, numbers out of range.
    """

    papers = ("um2024don",)
    thresholds: Tensor
    noise: Tensor

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | None = None,
        levels: int = 10,
        perturbation: float = 0.6,
        probes: int = 5,
        times: str = "uniform",
        data_std: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, model=model, times=times, data_std=data_std, **parts)
        if levels < 2 or probes < 1:
            raise UserError(f"model.levels={levels} model.probes={probes}: at least two levels, and one probe.")
        if not 0 < perturbation <= 1:
            raise UserError(f"model.perturbation={perturbation}: a share of the path, above 0 and at most 1.")
        self.known, self.judge = levels, self.judging(levels)
        self.time = self.path.start + perturbation * (self.path.end - self.path.start)
        draws = torch.randn(probes, *self.spec.shape, generator=torch.Generator().manual_seed(0))
        self.register_buffer("noise", draws)
        self.register_buffer("thresholds", torch.zeros(levels - 1))

    def prepare(self, x: Tensor) -> None:
        scores = torch.cat([self.minority(part) for part in x.split(1000)])
        inner = torch.linspace(0, 1, self.known + 1, device=x.device, dtype=x.dtype)[1:-1]
        self.thresholds.copy_(scores.quantile(inner))

    @torch.no_grad()
    def minority(self, x: Tensor) -> Tensor:
        """The minority score l (B,) of records (B, ...), in their units."""
        probes = len(self.noise)
        repeated = x.expand(probes, *x.shape).flatten(0, 1)
        t = torch.full((len(repeated),), self.time, device=x.device, dtype=x.dtype)
        found = self.inner.denoise(self.path.noised(repeated, t, self.noise.repeat_interleave(len(x), 0)), t)
        return (found - repeated).flatten(1).norm(dim=1).view(probes, -1).mean(0)

    def level(self, x: Tensor) -> Tensor:
        """The class by minority score int64 (B,) of records (B, ...), from 0 for the commonest."""
        return torch.bucketize(self.minority(x), self.thresholds)

    def loss(self, batch: Unlabelled) -> Tensor:
        return F.cross_entropy(self.judge(*noised(self.path, self.times, batch.x)), self.level(batch.x))

    def log_proba_at(self, x: Tensor, t: Tensor) -> Tensor:
        """x_t (B, ...), t (B,) -> ln p(level | x_t) (B, levels)."""
        return self.judge(x, t).log_softmax(1)

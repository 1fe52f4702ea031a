"""A trained diffusion model beside a network that judges noisy records."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.analytic_diffusion import AnalyticDiffusion
from modules.generative.gaussian.checkpoints import frozen
from modules.generative.gaussian.model import GaussianModel
from modules.generative.gaussian.noisy import Judge
from modules.generative.gaussian.paths import Path
from modules.generative.gaussian.weightings import law_of_times

AXES = ("path", "sampler", "timesteps", "guidance")

MOST_RECORDS = 10_000
"""Training records that are looked at before training starts."""


class JudgedDiffusion(GaussianModel):
    """Denoises as a frozen model does, and trains `judge`, a network of x_t: the parent of what guides that model.

    Args:
        spec: images or vectors.
        model: checkpoint of a Gaussian diffusion model, whose path is `path`; None: the Gaussian with mean and
            covariance of the training records, fitted at the start.
        times: law of the judge's training times, see `modules.generative.gaussian.weightings`.
        data_std: standard deviation of the data, which scales the judge's input to about 1.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.

    Raises:
        UserError: a model on another path, an unknown law of times.
    """

    batch_type = Unlabelled
    judge: Judge

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        model: str | None,
        times: str,
        data_std: float,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        law_of_times(times)
        self.inner = inner_of(model, self.path, spec, {name: parts[name] for name in AXES})
        self.fitted, self.times = model is None, times
        self.data_std = data_std

    def judging(self, outputs: int) -> Judge:
        """A judge with so many outputs."""
        return Judge(self.build(self.spec.shape, (outputs,), time=True), self.path, self.data_std)

    @abstractmethod
    def loss(self, batch: Unlabelled) -> Tensor:
        """What the judge descends."""

    @abstractmethod
    def prepare(self, x: Tensor) -> None:
        """Set what the loss needs from training records (N, ...), at most 10000; a continued run does so again."""

    def on_fit_start(self) -> None:
        """Look at training records."""
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        x = data.records("train", MOST_RECORDS).x.to(self.like)
        with torch.no_grad():
            if isinstance(self.inner, AnalyticDiffusion) and self.fitted and not int(self.inner.seen):
                self.inner.accumulate(Unlabelled(x))
                self.inner.solve()
            self.prepare(x)

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return self.inner.denoise(x, t, y)


def inner_of(
    model: str | None, path: Path, spec: DataSpec | Mapping[str, Any], axes: Mapping[str, Any]
) -> GaussianModel:
    """The model of a checkpoint, or a Gaussian that is still to be fitted."""
    if model is None:
        return AnalyticDiffusion(spec, law="gaussian", **axes)
    return frozen(model, path, "model.model")

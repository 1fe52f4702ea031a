"""Gaussian diffusion: one method for every path, target, weighting, sampler and guidance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.gaussian.field import Ask
from modules.generative.gaussian.model import GaussianModel
from modules.generative.gaussian.paths import along, distinct
from modules.generative.gaussian.stops import asked
from modules.generative.gaussian.targets import recovery, target_of
from modules.generative.gaussian.weightings import law_of_times, times_of, weight_of


class Diffusion(GaussianModel):
    """Learns E[x_0 | x_t] of x_t = alpha(t) x_0 + sigma(t) eps, and samples by carrying noise back to data.

        loss   E w(t) |x_0 - D(x_t, t)|^2

    with D put together from what the network predicts. Which path, which target, which weighting and which law of
    training times make it DDPM (vp, noise, noise, uniform), EDM (edm, edm, edm, lognormal), flow matching
    (linear, velocity, velocity, uniform), and so on: they are axes, and so are the sampler, its schedule of
    time steps and its guidance.

    Ho et al. 2020 (DDPM); Song et al. 2021 (SDEs); Kingma et al. 2021 (one loss); Karras et al. 2022 (design space).

    Args:
        spec: images or vectors.
        target: what the network predicts, see `modules.generative.gaussian.targets`.
        weighting: see `modules.generative.gaussian.weightings.weight_of`; the name of the target counts its own error.
        times: law of the training times: `uniform`, `lognormal` (EDM) or `log_snr`.
        data_std: standard deviation of the data: it scales the network's input to about 1, and is EDM's sigma_data.
            Default 0.5, EDM's for images from -1 to 1.
        parts: the arguments of `GaussianModel`, and `net`, `optimizer`, `schedule`.

    Raises:
        UserError: an unknown target, weighting or law of times.
    """

    batch_type = Unlabelled

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        target: str = "v",
        weighting: str = "v",
        times: str = "uniform",
        data_std: float = 0.5,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        self.target, self.weighting, self.times, self.data_std = target, weighting, times, data_std
        middle = torch.tensor([(self.path.start + self.path.end) / 2])
        target_of(target, self.path, middle, data_std)
        weight_of(weighting, self.path, middle, data_std)
        law_of_times(times)
        self.net = self.build(self.spec.shape, self.spec.shape, time=True, **self.network())

    def network(self) -> dict[str, Any]:
        """What else the network is built with."""
        return {}

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x_0 | x_t = x] (B, ...) at times t (B,); y int64 (B,) where there are classes, -1 for any."""
        of_value, of_x = asked(self.recovery, t)
        return along(of_value, x) * self.predict(x, t, y) + along(of_x, x) * x

    def recovery(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """c and d such that x_0 = c predicted + d x_t, at times (B,); (1,) where they are all the same."""
        t = distinct(t)
        return recovery(t, target_of(self.target, self.path, t, self.data_std), self.path)

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The network's target at x_t (B, ...), of times (B,)."""
        condition = () if y is None else (y,)
        return self.net(*self.inputs(x, t), *condition)

    def inputs(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """x_t (B, ...), of times (B,) -> what the network sees: x over its deviation, times (B,)."""
        std, told = asked(self.seen, t)
        return x / along(std, x), told.expand(len(x))

    def seen(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """Standard deviation of x_t, and what the network is told of the time, at times (B,); (1,) as `recovery`."""
        t = distinct(t)
        return self.path.std(t, self.data_std), self.path.conditioning(t)

    def flow(self, y: Tensor | None = None) -> Ask | None:
        """See `GaussianModel`; None as well for a subclass whose denoiser is not made of its predictions alone."""
        if self.target != "velocity" or type(self).denoise is not Diffusion.denoise:
            return None
        return lambda x, t: self.predict(x, t, y)

    def loss(self, batch: Unlabelled) -> Tensor:
        x, t, noise = self.noised(batch.x)
        return self.error(self.predict(x, t), batch.x, noise, t).mean()

    def noised(self, data: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Data (B, ...) -> x_t (B, ...), random times (B,) and the noise (B, ...)."""
        t = times_of(self.times, self.path, len(data), data)
        noise = self.path.noise(data)
        return self.path.noised(data, t, noise), t, noise

    def error(self, predicted: Tensor, data: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Weighted squared error (B,) of the network's predictions (B, ...), a mean over components."""
        target = target_of(self.target, self.path, t, self.data_std)
        error = (predicted - target.of(data, noise)).flatten(1).square().mean(1)
        if self.weighting == self.target:
            return error
        own = weight_of(self.target, self.path, t, self.data_std)
        return weight_of(self.weighting, self.path, t, self.data_std) / own * error

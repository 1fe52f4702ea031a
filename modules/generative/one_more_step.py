"""One More Step: the first step of a sampler whose training never reached pure noise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.generative.conditional_diffusion import ConditionalDiffusion
from modules.generative.gaussian.checkpoints import frozen
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.model import GaussianModel


class OneMoreStep(ConditionalDiffusion):
    """The step from pure noise to the end of a path where data are left.

    Where alpha(end) > 0, a sampler that starts from N(0, I) starts from another law than that of x_end, and what it
    draws lies too near to the mean of the data. One step from pure noise e mends it,

        x_end = alpha(end) x_hat(e, y) + sigma(end) z,   x_hat = -psi(e, y),   loss of psi: E |psi(e, y) + x_0|^2

    with e and z independent: at signal-to-noise ratio 0 the target v = alpha eps - sigma x_0 is -x_0. psi is a small
    network of its own; the diffusion model, its sampler and its guidance stay as they are. With guidance of its own,
    x_hat = x_hat(any) + `scale` (x_hat(y) - x_hat(any)), it controls what is coarse, such as brightness.

    Since e says nothing of the data, the best psi is the mean of a class: the step mends what a class (or a text)
    knows of the data, not the scatter within it.

    Hu et al. 2024, "One More Step: A Versatile Plug-and-Play Module for Rectifying Diffusion Schedule Flaws and
    Enhancing Low-Frequency Controls", section 3, and the authors' pipeline for z.
    Deviations: (1) classes instead of texts; (2) psi has the architecture of `net`, without a time.

    Args:
        spec: images or vectors in classes.
        model: checkpoint of a conditional model, on the same path, that stays as it is; None trains one beside psi, as
            `ConditionalDiffusion` does.
        scale: of psi's own guidance; 1 is none.
        parts: the arguments of `ConditionalDiffusion`; `drop` also hides classes from psi.

    Raises:
        UserError: a checkpoint of another path.
    """

    papers = ("hu2024step",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], model: str | None = None, scale: float = 1.0, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        self.scale = scale
        self.inner: GaussianModel | None = None
        if model is not None:
            self.inner = frozen(model, self.path, "model.model")
            del self.net
        self.first = self.build(self.spec.shape, self.spec.shape, **self.network())

    def denoise(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return super().denoise(x, t, y) if self.inner is None else self.inner.denoise(x, t, y)

    def loss(self, batch: Labelled) -> dict[str, Tensor]:  # type: ignore[override]
        y = self.hidden(batch.y)
        first = (self.first(torch.randn_like(batch.x), y=y) + batch.x).square().mean()
        return {"first": first} if self.inner is not None else {"first": first, "diffusion": super().loss(batch)}

    def field(self, y: Tensor | None = None) -> Field:
        """What samplers follow; it starts from pure noise where no class is asked for."""
        field = super().field(y)
        if y is not None:
            end = torch.tensor(self.path.end, dtype=torch.float64)
            field.prior_mean = self.path.alpha(end) * self.estimate(y)
            field.prior_std = float(self.path.sigma(end))
        return field

    def estimate(self, y: Tensor) -> Tensor:
        """x_hat (B, ...) of classes y int64 (B,)."""
        noise = torch.randn(len(y), *self.spec.shape, device=self.like.device, dtype=self.like.dtype)
        conditional = -self.first(noise, y=y)
        if self.scale == 1:
            return conditional
        unconditional = -self.first(noise, y=torch.full_like(y, -1))
        return unconditional + self.scale * (conditional - unconditional)

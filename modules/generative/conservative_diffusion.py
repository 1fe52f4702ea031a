"""Diffusion whose field is the gradient of an energy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.diffusion import Diffusion


class ConservativeDiffusion(Diffusion):
    """Learns the noise as the gradient of a scalar of the network f, so that the score is conservative, as the true is:

        eps(x_t, t) = d/du <u, f(u, t)>,   u = x_t scaled to a variance of about 1

    Salimans and Ho 2021, "Should EBMs Model the Energy or the Score?", for scalars that are made of a network of the
    records' own shape: it has as many weights as the free field of `Diffusion`, and costs a gradient more. Where it
    matters: Horvat and Pfister 2024, "On gauge freedom, conservativity and intrinsic dimensionality estimation in
    diffusion models".

    Args:
        spec: images or vectors.
        target: `noise`, and no other.
        parts: the arguments of `Diffusion`.

    Raises:
        UserError: another target, of which a gradient is no score's.
    """

    papers = ("horvat2024gauge",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], target: str = "noise", **parts: Any) -> None:
        super().__init__(spec, target=target, **parts)
        if target != "noise":
            raise UserError(f"model.target={target}: the gradient stands for the noise.", "model.target=noise")

    def predict(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        (scaled, times), condition = self.inputs(x, t), () if y is None else (y,)

        def energy(u: Tensor) -> Tensor:
            return (u * self.net(u, times, *condition)).sum()

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels of attention have no second derivative
            return torch.func.grad(energy)(scaled)

"""Noise-contrastive estimation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from datamodules.spec import DataSpec
from modules.generative.energy import EnergyModel


class NCE(EnergyModel):
    """Tells data from noise by G(x) = log p0(x) - c - log q(x), where c, a parameter, ends as log Z:

        E_data softplus(log v - G(x)) + v E_q softplus(G(z) - log v)        v = draws of the noise per record

    Gutmann and Hyvarinen 2010, "Noise-contrastive estimation: A new estimation principle for unnormalized statistical
    models"; for v other than 1, Gutmann and Hyvarinen 2012, section 2.

    Args:
        spec: images or vectors.
        parts: the arguments of `EnergyModel`.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], **parts: Any) -> None:
        super().__init__(spec, **parts)
        self.log_z = nn.Parameter(torch.zeros(()))

    def contrast(self, data: Tensor, noise: Tensor, ratio: Tensor) -> dict[str, Tensor]:
        odds = self.log_z + math.log(self.noise_ratio)
        return {
            "data": F.softplus(odds - data).mean(),
            "noise": self.noise_ratio * F.softplus(noise - odds).mean(),
        }

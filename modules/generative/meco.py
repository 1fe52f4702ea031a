"""Maximum likelihood of unnormalised models, by compositional optimisation."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.collectives import distributed, sum_of_all
from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.energy import EnergyModel


class MECO(EnergyModel):
    """Minimises -E_data log p0(x) + log g, g = E_q[p0(z) / q(z)], the negative log-likelihood itself.

    The logarithm of a batch's mean is biased. So a moving average u follows g over the steps, and stands for it in the
    gradient:

        u <- (1 - b) u + b mean_j r_j,   r_j = p0(z_j) / q(z_j)
        gradient  -mean_i grad log p0(x_i) + mean_j r_j grad log r_j / u

    Jiang et al. 2023, "Learning Unnormalized Statistical Models via Compositional Optimization". All is kept in
    logarithms here: r and u range over many powers of ten.

    Deviations: (1) the moving average of the gradient is the configured optimizer's momentum; (2) no correction of u by
    the previous weights (STORM); (3) the paper's own step sizes could not be looked up.

    Args:
        spec: images or vectors.
        decay: b, in (0, 1]; 1 takes each batch for itself. Default 0.1, our choice.
        parts: the arguments of `EnergyModel`.

    Raises:
        UserError: a decay outside.
    """

    papers = ("jiang2023learning",)

    def __init__(self, spec: DataSpec | Mapping[str, Any], decay: float = 0.1, **parts: Any) -> None:
        super().__init__(spec, **parts)
        if not 0 < decay <= 1:
            raise UserError(f"model.decay={decay}: it lies above 0 and is at most 1.")
        self.decay = decay
        self.register_buffer("log_u", torch.tensor(-math.inf))

    def contrast(self, data: Tensor, noise: Tensor, ratio: Tensor) -> dict[str, Tensor]:
        log_u = self.follow(noise.detach())
        # Its value is log u and its gradient that of g over u.
        slope = ((noise.detach() - log_u).exp() * noise).mean()
        return {"data": -(data.mean() + ratio), "normaliser": log_u + slope - slope.detach()}

    def follow(self, noise: Tensor) -> Tensor:
        """log r_j (N,) -> log u, moved on by them; where nothing is trained it stays."""
        log_g = noise.logsumexp(0) - math.log(len(noise))
        if distributed():
            highest = log_g.clone()
            torch.distributed.all_reduce(highest, torch.distributed.ReduceOp.MAX)
            mean = sum_of_all((log_g - highest).exp()) / torch.distributed.get_world_size()
            log_g = highest + mean.log()
        if torch.isneginf(self.log_u):  # the first batch
            log_u = log_g
        else:
            kept = self.log_u + math.log1p(-self.decay) if self.decay < 1 else torch.full_like(log_g, -math.inf)
            log_u = torch.logaddexp(kept.to(log_g), log_g + math.log(self.decay))
        if self.training:
            self.log_u.copy_(log_u)
        return log_u

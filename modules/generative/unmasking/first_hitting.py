"""First-hitting sampling of masked diffusion: straight to the next token that is filled in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.generative.unmasking.categorical import categorical, precision_of


class FirstHitting:
    """One call of the network per token: a masked place, chosen uniformly, gets a token from p(. | z).

    In continuous time masks are filled in one after the other. With n of them left at time t_n, the next one goes at

        t_{n-1} = t_n u^{1/n}    (alpha_t = 1 - t; u uniform)

    and each of the n is as likely to be the one. The law is that of ancestral sampling with infinitely many steps, for
    T calls and T categorical draws instead of `steps` calls and one draw per mask and step.

    Zheng et al. 2024, "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate
    Categorical Sampling": section 4.1, and parallel decoding of 4.2.

    Deviations: (1) the times themselves are not drawn: the network reads no t, and nothing depends on them. (2) The
    higher-order variants are left out.

    Args:
        together: tokens per call, drawn independently; 1 is exact, more is faster.
        precision: see `categorical`.

    Raises:
        UserError: no token per call, an unknown precision.
    """

    papers = ("zheng2024masked",)

    def __init__(self, together: int = 1, precision: str = "float64") -> None:
        if together < 1:
            raise UserError(f"model.unmasking.together={together}: a call fills in at least one token.")
        self.together, self.precision = together, precision_of(precision)

    def __call__(self, model: Any, z: Tensor) -> Tensor:
        """z int64 (B, T) -> the same with tokens in the place of masks."""
        order = torch.rand(z.shape, device=z.device).masked_fill(z != model.mask, torch.inf).argsort(1)
        for places in order[:, : int((z == model.mask).sum(1).max())].split(self.together, dim=1):
            log_p = model.log_probs(z)
            log_p = log_p.gather(1, places[..., None].expand(-1, -1, log_p.shape[2]))
            given = z.gather(1, places)  # records with fewer masks than others are done earlier
            drawn = torch.where(given == model.mask, categorical(log_p, self.precision), given)
            z = z.scatter(1, places, drawn)
        return z

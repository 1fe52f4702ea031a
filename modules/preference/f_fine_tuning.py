"""Supervised fine-tuning by other divergences than that which gives the likelihood."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean
from datamodules.batches import Demonstrations
from datamodules.spec import DataSpec
from modules.preference.fine_tuning import FineTuning
from modules.preference.referenced import Referenced

# phi, the least x at which it is taken as it is, and phi' there: below, its tangent goes on.
DIVERGENCES = {
    "total_variation": (lambda x: x, -torch.inf, 1.0),
    "pearson": (lambda x: x - x.square() / 4, -torch.inf, 1.0),
    "hellinger": (lambda x: x / (1 + x), -0.5, 4.0),
    "jensen_shannon": (lambda x: torch.log(2 - torch.exp(-x)), -0.5, 1 / (2 * math.exp(-0.5) - 1)),
}


class FFineTuning(Referenced, FineTuning):
    """Imitation of answers by an implicit reward, which is beta ln pi / pi_ref as in DPO.

        loss = -(sum over answers of phi(x) / beta) / (number of their tokens),   x = beta ln pi(y | x) / pi_ref(y | x)

    with phi(x) = -f*(-x) of a divergence D_f between the answers and the policy. To imitate by matching distributions
    is to look for the reward under which the answers are worth most beside those of the best policy under a KL
    divergence, and that reward is beta ln pi / pi_ref but for a constant of the prompt. Then

    - `total_variation`: phi = x, the loss of `FineTuning` but for a constant: pi_ref drops out of it, and nothing keeps
      the policy near.
    - `pearson`, f = (u - 1)^2: phi = x - x^2 / 4, which is highest at x = 2, a finite way from pi_ref.
    - `hellinger`, f = (sqrt(u) - 1)^2: phi = x / (1 + x), which rises ever less.
    - `jensen_shannon`, f = u ln u - (u + 1) ln((u + 1) / 2): phi = ln(2 - exp(-x)), which rises ever less, too.

    All have phi'(0) = 1: they begin as fine-tuning does. The reference is the policy as it begins.

    Wang et al. 2025, "Implicit Reward as the Bridge: A Unified View of SFT and DPO Connections". The paper's text was
    not at hand: phi is that of f by its definition, which is tested; that it is these f, and that the constant of the
    prompt is 0, is our reading of the abstract and of notes on the paper.

    Deviations: 1. Below x = -1/2 the tangent goes on where phi has a pole or an end, in the last two. 2. f is taken on
    the whole line, not from 0 on: phi of `pearson` falls beyond 2, and so holds the policy back.

    Args:
        spec, model, parts: see `FineTuning`.
        divergence: `total_variation`, `pearson`, `hellinger` or `jensen_shannon`.
        beta: weight of the KL divergence, in units of the reward, above 0; 0.1 as in `DPO`.

    Raises:
        UserError: an unknown divergence, a beta that is not above 0; see `FineTuning`.
    """

    papers = ("wang2025implicit",)

    def __init__(
        self, spec: DataSpec | Mapping[str, Any], divergence: str = "pearson", beta: float = 0.1, **parts: Any
    ) -> None:
        super().__init__(spec, **parts)
        if divergence not in DIVERGENCES:
            mend = did_you_mean(divergence, list(DIVERGENCES))
            raise UserError(f"model.divergence={divergence} is unknown.", mend)
        if not beta > 0:
            raise UserError(f"model.beta={beta}: it is above 0.")
        self.divergence, self.beta = divergence, beta

    def loss(self, batch: Demonstrations) -> Tensor:
        noted = self.reference_log_probs(batch.ids, batch.answer)
        x = self.beta * (self.answer_log_probs(batch.ids, batch.answer) - noted)
        return -phi(self.divergence, x).sum() / (self.beta * batch.answer.sum())


def phi(divergence: str, x: Tensor) -> Tensor:
    """x (...) -> -f*(-x) (...), and its tangent below where that is defined."""
    function, least, slope = DIVERGENCES[divergence]
    inside = x.clamp(min=least)
    return function(inside) + slope * (x - inside)

"""Dropout whose probabilities are read off the record."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.mask_flow import law
from modules.networks.stochastic import Noise, NoisyLayer, mask_shape, weight_of


class ContextualDropout(Noise):
    """Units are kept with probabilities pi(h) that a small network reads off what the layer reads, h.

    A unit is multiplied by a relaxed Bernoulli variable z, u uniform:

        z = sigmoid((g(h) + ln u - ln(1 - u)) / temperature),      pi(h) = sigmoid(g(h))

    Units that are kept are not scaled. For each record the layer diverges from its prior, which keeps each unit with a
    probability e that is learned, by

        weight * mean over units of  pi ln(pi / e) + (1 - pi) ln((1 - pi) / (1 - e))

    Fan et al. 2021, "Contextual Dropout: An Efficient Sample-Dependent Dropout Module". The divergence, its mean over
    units, its weight of 1, the learned prior, the temperature of 0.1, and that g has no gradient for h were verified in
    their code (szhang42/Contextual_dropout_release: ARMDense.py, config.py), of which this is the relaxed variant; the
    paper was not at hand. Deviations: 1. Its other estimator of the gradient, ARM, is not there. 2. g's hidden layer
    has a fixed number of units (there: a tenth of the layer's), and SiLU.

    Args:
        p: probability with which a unit is dropped at the start.
        weight: of the divergence; 0: none.
        temperature: of the relaxation.
        hidden: units of g's hidden layer.
        parts: the arguments of `Noise`.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self, p: float = 0.1, weight: float = 1.0, temperature: float = 0.1, hidden: int = 32, **parts: Any
    ) -> None:
        super().__init__(**parts)
        if not 0 < p < 1 or weight < 0 or temperature <= 0 or hidden < 1:
            raise UserError(
                f"model.noise.p={p} weight={weight} temperature={temperature} hidden={hidden}: p lies in (0, 1), the "
                "weight is at least 0, the temperature above 0, and there is at least one unit."
            )
        self.p, self.weight, self.temperature, self.hidden = p, weight, temperature, hidden

    def noisy(self, layer: nn.Module, first: bool) -> nn.Module:
        return ContextuallyDropped(layer, self.p, self.weight, self.temperature, self.hidden)


class ContextuallyDropped(NoisyLayer):
    """A layer with the masks of `ContextualDropout`; `prior` (1,) is ln e - ln(1 - e)."""

    def __init__(self, layer: nn.Module, p: float, weight: float, temperature: float, hidden: int) -> None:
        super().__init__()
        units = weight_of(layer).shape[1]
        self.layer, self.divergence_weight, self.temperature = layer, weight, temperature
        self.law = law(units, hidden, units, p)
        self.prior = nn.Parameter(torch.full((1,), math.log1p(-p) - math.log(p)))

    def forward(self, x: Tensor) -> Tensor:
        logits = self.law(x.detach().flatten(2).mean(2) if x.dim() > 2 else x.detach())
        self.local = self.divergence_weight * divergence(logits, self.prior).mean(1)
        keep = torch.sigmoid((logits + torch.logit(torch.rand_like(logits), eps=1e-6)) / self.temperature)
        return self.layer(x * keep.view(mask_shape(x)))


def divergence(logits: Tensor, prior: Tensor) -> Tensor:
    """Logits of Bernoulli laws (...) and of a prior, which broadcast -> their divergence in nats (...)."""
    kept = torch.sigmoid(logits) * (F.logsigmoid(logits) - F.logsigmoid(prior))
    return kept + torch.sigmoid(-logits) * (F.logsigmoid(-logits) - F.logsigmoid(-prior))

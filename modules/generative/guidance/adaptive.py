"""Adaptive guidance: no second evaluation once both predictions agree."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.targets import noise_of
from modules.generative.guidance.base import Conditional, Guidance, Pair
from modules.generative.guidance.classifier_free import classes_of


class Adaptive(Guidance):
    """Classifier-free guidance of each record until its conditional and unconditional noise point the same way.

    Once cos(eps(x_t, y), eps(x_t)) >= `agreement`, the record follows the conditional model to the end, at one
    evaluation a step instead of two.

    Castillo et al. 2023, "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models", section 5.
    Deviation: the evaluations of a batch are counted in the mean over its records, which stop one by one.

    Args:
        scale: of the guidance while it lasts.
        agreement: gamma-bar, a cosine from -1 to 1. Default 0.991, there; 1 never stops.

    Raises:
        UserError: an agreement that is no cosine; a model without classes.
    """

    papers = ("castillo2023adaptive",)

    def __init__(self, scale: float = 2.0, agreement: float = 0.991) -> None:
        if not -1 <= agreement <= 1:
            raise UserError(f"guidance.agreement={agreement}: a cosine, from -1 to 1.")
        self.scale, self.agreement = scale, agreement

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Agreeing(model, classes_of(y, "adaptive"), self)


class Agreeing(Pair):
    """The field of `Adaptive`; it remembers which records are still guided."""

    def __init__(self, model: Conditional, y: Tensor, guidance: Adaptive) -> None:
        super().__init__(model, y)
        self.guidance = guidance
        self.guided = torch.ones_like(y, dtype=torch.bool)

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        times, rows = t.to(x).expand(len(x)), self.guided.nonzero()[:, 0]
        self.calls += 1 + len(rows) / len(x)
        # The unconditional rows that are still wanted travel in the same call.
        both = self.model.denoise(
            torch.cat([x, x[rows]]),
            torch.cat([times, times[rows]]),
            torch.cat([self.y, torch.full_like(rows, -1)]),
        )
        conditional, unconditional = both[: len(x)], both[len(x) :]
        mine = conditional[rows]
        noises = (noise_of(data, x[rows], t, self.path).flatten(1) for data in (mine, unconditional))
        self.guided[rows] = F.cosine_similarity(*noises) < self.guidance.agreement
        return conditional.index_copy(0, rows, unconditional + self.guidance.scale * (mine - unconditional))

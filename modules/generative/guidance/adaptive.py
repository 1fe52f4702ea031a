"""Adaptive guidance: no second evaluation once both predictions agree."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import spread
from modules.generative.gaussian.targets import noise_of
from modules.generative.guidance.base import Conditional, Guidance, Pair
from modules.generative.guidance.classifier_free import classes_of


class Adaptive(Guidance):
    """Classifier-free guidance of each record until its conditional and unconditional predictions agree again.

    Once cos(eps(x_t, y), eps(x_t)) >= `agreement`, after it was below, the record follows the conditional model to the
    end, at one evaluation a step instead of two.

    Castillo et al. 2023, "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models", section 5.
    Deviations: (1) the evaluations of a batch are counted in the mean over its records, which stop one by one; (2) a
    record is watched from the step on at which the two disagree: where sampling starts from pure noise, both
    predictions are the input itself at first, and agree about nothing; (3) `of` may name the predicted records instead
    of their noise: of few components the noise need not come to agree - on digits of 8 x 8 its cosine falls from 1
    to 0.96 on the way, while the predicted records' difference falls from 45% to 0.1% of their length.

    Args:
        scale: of the guidance while it lasts.
        agreement: gamma-bar, a cosine from -1 to 1. Default 0.991, there; 1 never stops.
        of: which predictions are compared, `noise`, as there, or `data`.

    Raises:
        UserError: an agreement that is no cosine, an unknown prediction; a model without classes.
    """

    papers = ("castillo2023adaptive",)

    def __init__(self, scale: float = 2.0, agreement: float = 0.991, of: Literal["noise", "data"] = "noise") -> None:
        if not -1 <= agreement <= 1:
            raise UserError(f"guidance.agreement={agreement}: a cosine, from -1 to 1.")
        if of not in ("noise", "data"):
            raise UserError(f"guidance.of={of} is unknown.", "noise or data")
        self.scale, self.agreement, self.of = scale, agreement, of

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Agreeing(model, classes_of(y, "adaptive"), self)


class Agreeing(Pair):
    """The field of `Adaptive`; it remembers which records are still guided, and which disagreed before."""

    def __init__(self, model: Conditional, y: Tensor, guidance: Adaptive) -> None:
        super().__init__(model, y)
        self.guidance = guidance
        self.guided = torch.ones_like(y, dtype=torch.bool)
        self.disagreed = torch.zeros_like(self.guided)

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        times, rows = spread(t, x), self.guided.nonzero()[:, 0]
        self.calls += 1 + len(rows) / len(x)
        # The unconditional rows that are still wanted travel in the same call.
        both = self.model.denoise(
            torch.cat([x, x[rows]]),
            torch.cat([times, times[rows]]),
            torch.cat([self.y, torch.full_like(rows, -1)]),
        )
        conditional, unconditional = both[: len(x)], both[len(x) :]
        mine = conditional[rows]
        apart = self.cosine(mine, unconditional, x[rows], t) < self.guidance.agreement
        self.disagreed[rows] |= apart
        self.guided[rows] = apart | ~self.disagreed[rows]
        return conditional.index_copy(0, rows, unconditional + self.guidance.scale * (mine - unconditional))

    def cosine(self, one: Tensor, other: Tensor, x: Tensor, t: Tensor) -> Tensor:
        """Cosine (B,) of the angle between two predictions (B, ...) at x_t."""
        if self.guidance.of == "noise":
            one, other = (noise_of(data, x, t, self.path) for data in (one, other))
        return F.cosine_similarity(one.flatten(1), other.flatten(1))

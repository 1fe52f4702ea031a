"""Classifier-free guidance, everywhere or on an interval of noise levels."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.stops import spread
from modules.generative.gaussian.targets import score_of
from modules.generative.guidance.base import Conditional, Guidance, Pair


class ClassifierFree(Guidance):
    """D = D(x) + scale (D(x, y) - D(x)) with D = E[x_0 | x_t], where low <= sigma / alpha <= high, else D(x, y).

    scale 1 is the conditional model, 0 the unconditional one; above 1 the class is exaggerated.

    Ho and Salimans 2022, "Classifier-Free Diffusion Guidance", equation 6 with scale = 1 + w; Kynkäänniemi et al. 2024,
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models", for the
    interval. Outside it the network is called once.

    Args:
        scale: of the guidance.
        low: smallest noise ratio at which there is guidance.
        high: largest; None for no limit.

    Raises:
        UserError: an empty interval, or a model without classes.
    """

    def __init__(self, scale: float = 2.0, low: float = 0.0, high: float | None = None) -> None:
        self.scale, self.low, self.high = scale, low, math.inf if high is None else high
        if self.low >= self.high:
            raise UserError(f"guidance.low={low} guidance.high={high}: an interval of noise ratios.")

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Guided(model, classes_of(y, "classifier_free"), self)


class Guided(Pair):
    """The field of `ClassifierFree`."""

    def __init__(self, model: Conditional, y: Tensor, guidance: ClassifierFree) -> None:
        super().__init__(model, y)
        self.guidance = guidance

    def data(self, x: Tensor, t: Tensor) -> Tensor:
        inside = self.guidance.low <= self.path.noise_ratio(t) <= self.guidance.high
        self.calls += 2 if inside else 1
        times = spread(t, x)
        return self.combined(x, times) if inside else self.model.denoise(x, times, self.y)

    def scored(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """The score, and scale (scale - 1) / 2 |score(x | y) - score(x)|^2 (B,).

        Skreta et al. 2025, "Feynman-Kac Correctors in Diffusion", for the geometric average of two densities.
        """
        if not self.guidance.low <= self.path.noise_ratio(t) <= self.guidance.high:
            return self.score(x, t), x.new_zeros(len(x))
        self.calls += 2
        conditional, unconditional = self.pair(x, spread(t, x))
        apart = score_of(conditional, x, t, self.path) - score_of(unconditional, x, t, self.path)
        score = score_of(self.combine(conditional, unconditional, x, t), x, t, self.path)
        scale = self.guidance.scale
        return score, 0.5 * scale * (scale - 1) * apart.flatten(1).square().sum(1)

    def combine(self, conditional: Tensor, unconditional: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return unconditional + self.guidance.scale * (conditional - unconditional)


def classes_of(y: Tensor | None, name: Any) -> Tensor:
    """The classes that a guidance goes towards.

    Raises:
        UserError: there are none.
    """
    if y is None:
        raise UserError(
            f"guidance={name} goes towards a class, and this model has none.",
            "train model=generative/conditional_diffusion",
        )
    return y

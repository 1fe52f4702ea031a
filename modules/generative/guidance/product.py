"""Towards what two classes have in common."""

from __future__ import annotations

from torch import Tensor

from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import along
from modules.generative.gaussian.stops import spread
from modules.generative.gaussian.targets import score_of
from modules.generative.guidance.base import Conditional, Guidance, Pair
from modules.generative.guidance.classifier_free import classes_of


class Product(Guidance):
    """The sum of two classes' scores: that of p_t(x | y) p_t(x | label), the product of two experts.

    As for `Annealed`, a sampler that follows it samples another law than p_0(x | y) p_0(x | label), and
    `sampler=feynman_kac` corrects for that.

    Skreta et al. 2025, "Feynman-Kac Correctors in Diffusion: Annealing, Guidance, and Product of Experts".

    Args:
        label: the second class.
    """

    papers = ("skreta2025feynman",)

    def __init__(self, label: int = 0) -> None:
        self.label = label

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Both(model, classes_of(y, "product"), self.label)


class Both(Pair):
    """The field of `Product`."""

    def __init__(self, model: Conditional, y: Tensor, label: int) -> None:
        super().__init__(model, y, label)
        self.prior_std /= 2**0.5

    def combine(self, one: Tensor, other: Tensor, x: Tensor, t: Tensor) -> Tensor:
        return one + other - x / along(self.path.alpha(t), x)

    def scored(self, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """score(x | y) + score(x | label), and their product (B,)."""
        self.calls += 2
        one, other = (score_of(data, x, t, self.path) for data in self.pair(x, spread(t, x)))
        return one + other, (one * other).flatten(1).sum(1)

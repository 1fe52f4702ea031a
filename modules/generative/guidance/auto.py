"""Guidance by a weaker model."""

from __future__ import annotations

from torch import Tensor

from modules.generative.gaussian.checkpoints import opened_for
from modules.generative.gaussian.field import Field
from modules.generative.guidance.base import Conditional, Guidance


class AutoGuidance(Guidance):
    """D = D_weak + scale (D - D_weak): away from what a worse version of the same model would do.

    Karras et al. 2024, "Guiding a Diffusion Model with a Bad Version of Itself", equation 5.

    Args:
        weak: checkpoint of the weaker model, on the same path: trained for less long, or smaller.
        scale: of the guidance; 1 leaves the model alone.
    """

    def __init__(self, weak: str, scale: float = 2.0) -> None:
        self.weak, self.scale = weak, scale

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Apart(model, self.weak, y, self.scale)


class Apart(Field):
    """The field of `AutoGuidance`."""

    cost = 2

    def __init__(self, model: Conditional, weak: str, y: Tensor | None, scale: float) -> None:
        super().__init__(model.path, self.apart)
        self.model, self.weak, self.y, self.scale = model, weak, y, scale

    def apart(self, x: Tensor, t: Tensor) -> Tensor:
        """The prediction, away from the weak model's."""
        weak = opened_for(self.weak, x).denoise(x, t, self.y)
        return weak + self.scale * (self.model.denoise(x, t, self.y) - weak)

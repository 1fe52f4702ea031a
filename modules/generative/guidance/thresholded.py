"""Thresholding: what a model says of the data is put back into their range."""

from __future__ import annotations

from torch import Tensor

from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.guidance.base import Conditional, Guidance


class Thresholded(Guidance):
    """E[x_0 | x_t], clamped to [low, high] component by component: static thresholding.

    Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding", section 2.3.
    Lou and Ermon 2023, "Reflected Diffusion Models", compare with it.

    Args:
        low: of the data.
        high: of the data.

    Raises:
        UserError: no range.
    """

    def __init__(self, low: float = -1.0, high: float = 1.0) -> None:
        if not low < high:
            raise UserError(f"guidance.low={low} guidance.high={high}: the range goes from low to high.")
        self.low, self.high = low, high

    def field(self, model: Conditional, y: Tensor | None) -> Field:
        return Field(model.path, lambda x, t: model.denoise(x, t, y).clamp(self.low, self.high))

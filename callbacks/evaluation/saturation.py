"""Whether drawn pictures are over- or undersaturated."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from callbacks.evaluation.samples import BesideRecords
from callbacks.metrics.pixels import contrast, extremes, saturation


class Saturation(BesideRecords):
    """Figures of n drawn pictures, each divided by that of the records: 1 is as in the data.

    - `colour_saturation`: mean saturation in HSV; of pictures in colour alone.
    - `extremes`: share of pixels in the lowest or the highest level; components beyond the range count as at its end.
    - `contrast`: standard deviation of the pixels of a picture.

    Strong guidance raises all three (Saharia et al. 2022, "Photorealistic Text-to-Image Diffusion Models with Deep
    Language Understanding", section 2.3). A figure is NaN where the records have none of it, or a draw is not finite.

    The formulas: `callbacks.metrics.pixels`. Levels are the data's own, 256 where they have none.

    Args:
        n: number of draws and of records; 1000 as in `Samples`, whose draws these are.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 1000, **parts: Any) -> None:
        super().__init__(n, **parts)

    def misfit(self, method, spec):
        if spec.kind != "image":
            return "the records are no pictures"
        return None if spec.bounds is not None else "the range of the pixels is not known"

    def compare(self, drawn: Tensor, real: Tensor, data: Any) -> dict[str, float]:
        low, high = data.spec.bounds
        known = bool(drawn.isfinite().all()) and len(drawn) > 0 and len(real) > 0
        drawn, real = (((x - low) / (high - low)).clamp(0, 1) for x in (drawn, real))
        metrics = {"extremes": lambda x: extremes(x, data.spec.levels or 256), "contrast": contrast}
        if data.spec.shape[0] == 3:
            metrics["colour_saturation"] = saturation
        return {name: ratio(float(of(drawn)), float(of(real))) if known else math.nan for name, of in metrics.items()}


def ratio(drawn: float, real: float) -> float:
    """drawn / real; NaN where there is nothing to compare with."""
    return drawn / real if real else math.nan

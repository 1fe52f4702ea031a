"""Whether drawn pictures are as bright, and as differently bright, as real ones."""

from __future__ import annotations

import math
from typing import Any

from torch import Tensor

from callbacks.evaluation.samples import BesideRecords


class Brightness(BesideRecords):
    """Figures of the mean over each of n drawn pictures, in [0, 1], beside the records'.

    - `brightness_distance`: 1-Wasserstein distance of the two laws of brightness.
    - `brightness_spread`: standard deviation of the draws' brightness divided by that of the records'; 0 is one grey.

    NaN where a draw is not finite.

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
        from scipy.stats import wasserstein_distance

        low, high = data.spec.bounds
        drawn, real = (((x.flatten(1).double().mean(1) - low) / (high - low)) for x in (drawn, real))
        if not drawn.isfinite().all() or len(drawn) < 2 or len(real) < 2:
            return {"brightness_distance": math.nan, "brightness_spread": math.nan}
        return {
            "brightness_distance": float(wasserstein_distance(drawn.numpy(), real.numpy())),
            "brightness_spread": float(drawn.std() / real.std()),
        }

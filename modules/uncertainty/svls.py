"""Spatially varying label smoothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from datamodules.spec import DataSpec
from modules.supervised.segmenter import SoftmaxSegmenter
from modules.uncertainty.neighbours import checked_patch, proportions


class SpatiallyVaryingLabelSmoothing(SoftmaxSegmenter):
    """Cross-entropy at every pixel with the labels around it: q = weighted share of each class in the patch.

    Inside a region q is the one-hot label; at a boundary half of it belongs to the neighbours, see
    `modules.uncertainty.neighbours.gaussian_kernel`. Islam and Glocker 2021, "Spatially Varying Label Smoothing:
    Capturing Uncertainty from Expert Annotations", as the code of Murugesan et al. 2023 has it
    (`calibrate/losses/spatial_label_smoothing.py`: 3 x 3, sigma 1, labels at the border repeated beyond it). The
    original paper itself was not at hand.

    Args:
        spec: pictures with a mask.
        size: side of the patch, an odd number of pixels (3: that code).
        sigma: of the weights, in pixels (1: that code).
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an even size, a sigma that is not positive.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], size: int = 3, sigma: float = 1.0, **parts: Any) -> None:
        super().__init__(spec, **parts)
        checked_patch(size, sigma)
        self.size, self.sigma = size, sigma

    def soft_labels(self, segments: Tensor) -> Tensor:
        return proportions(self.one_hot(segments), "gaussian", self.size, self.sigma)

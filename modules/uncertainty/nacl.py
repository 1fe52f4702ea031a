"""Neighbour-aware calibration: a penalty on logits that stray from the labels around a pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Segmented
from datamodules.spec import DataSpec
from modules.supervised.segmenter import SoftmaxSegmenter
from modules.uncertainty.neighbours import PRIORS, checked_patch, proportions


class NeighbourAwareSegmenter(SoftmaxSegmenter):
    """Cross-entropy with an explicit penalty in the place of soft labels:

        loss = CE + weight mean over pixels and classes of |tau_k - l_k|^power

    with the logits l and tau_k the share of class k among the labels around the pixel. The optimum of the penalty alone
    are logits in [0, 1], which is where its calibration comes from: no probability exceeds e / (e + K - 1). Both papers
    show that spatially varying label smoothing, -sum_k tau_k ln p_k, is a cross-entropy and such a constraint at a
    weight that cannot be chosen.

    Murugesan et al. 2023, "Trust your neighbours: Penalty-based constraints for model calibration" (`mean`, 3 x 3,
    power 1, weight 0.1), and 2024, "Neighbor-Aware Calibration of Segmentation Networks with Penalty-Based
    Constraints" (NACL, the other priors). The term was checked by the authors' code
    (`calibrate/losses/spatial_adaptive_margin.py`: mean of |tau - l| over all of (B, K, H, W)); defaults are those of
    the paper as far as its abstract and that code tell, the papers' sections were not at hand.

    Deviations: (1) beyond the border stand the labels at the border, not background. (2) A power other than 1 is the
    general form; the code has 1 alone.

    Args:
        spec: pictures with a mask.
        weight: lambda, at least 0; 0 is the cross-entropy. The code's own default is 1; 0.1 from notes on the paper.
        prior: how tau comes from the patch, see `modules.uncertainty.neighbours.proportions`.
        power: of the absolute difference, at least 1: 1 is the papers' choice, 2 the quadratic penalty.
        size: side of the patch, an odd number of pixels.
        sigma: of the Gaussian weights, in pixels; only with `prior=gaussian`.
        parts: `net`, `optimizer`, `schedule`, see `Method`.

    Raises:
        UserError: an unknown prior, numbers out of range.
    """

    papers = ("murugesan2023trust", "murugesan2024neighbor")

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        weight: float = 0.1,
        prior: str = "mean",
        power: float = 1.0,
        size: int = 3,
        sigma: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if weight < 0 or power < 1:
            raise UserError(f"model.weight={weight} model.power={power}: at least 0, and at least 1.")
        if prior not in PRIORS:
            raise UserError(f"model.prior={prior} is unknown.", f"there are: {', '.join(PRIORS)}")
        checked_patch(size, sigma)
        self.weight, self.prior, self.power, self.size, self.sigma = weight, prior, power, size, sigma

    def loss(self, batch: Segmented) -> dict[str, Tensor]:
        logits = self.net(batch.x).float()
        tau = proportions(self.one_hot(batch.segments), self.prior, self.size, self.sigma)
        penalty = (tau - logits).abs().pow(self.power).mean()
        return {"cross_entropy": self.cross_entropy(logits, batch.segments), "penalty": self.weight * penalty}

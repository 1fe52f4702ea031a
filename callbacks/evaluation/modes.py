"""How many modes of a known mixture a sampler reaches."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from callbacks.evaluation.density import law_of_x
from callbacks.evaluation.samples import OfDraws, draws_of
from callbacks.metrics.precision import precise
from datamodules.sources.densities import GaussianMixture


class Modes(OfDraws):
    """Figures of n draws of a Sampler, where the law of the data is a mixture of Gaussians.

    Each draw belongs to the mode with the nearest mean, and is of high quality if it lies within `radius` standard
    deviations of it.

    - `modes`: modes with at least `least` draws of high quality.
    - `high_quality`: share of the draws that are of high quality. Of exact draws in two dimensions, from modes that
      are far apart, 1 - exp(-radius^2 / 2) are: 0.989.
    - `mode_kl`: KL(q || p) of the shares q of the draws that belong to each mode and the mixture's weights p, nats.
      Exact draws score about (modes - 1) / (2 n).

    Srivastava et al. 2017, "VEEGAN: Reducing Mode Collapse in GANs using Implicit Variational Learning", section 4
    (modes, high quality); Lin et al. 2018, "PacGAN: The power of two samples in generative adversarial networks",
    section 4 (reverse KL). Deviation: p is the mixture's own, not that of drawn records.

    Draws that are not finite are of no quality and belong to no mode; if all are, `mode_kl` is NaN.

    Args:
        n: number of draws, 2500 in both papers.
        radius: in standard deviations, 3 in both papers.
        least: draws of high quality that make a mode count, 1 in both papers. Where modes are wide, as seen from their
            distance, a sampler that spreads its draws over the whole region has one in nearly each: ask for more.
        parts: the arguments of `Evaluation`.
    """

    def __init__(self, n: int = 2500, radius: float = 3.0, least: int = 1, **parts: Any) -> None:
        super().__init__(**parts)
        self.n = n
        self.radius = radius
        self.least = least

    def misfit_of_records(self, data):
        known = isinstance(law_of_x(data, "test"), GaussianMixture)
        return None if known else "the law of the data is no known mixture"

    def compute(self, method, data) -> Mapping[str, float]:
        law = law_of_x(data, self.split)
        assert isinstance(law, GaussianMixture)
        return coverage(draws_of(method, data, self.n), law, self.radius, self.least)


def coverage(draws: Tensor, law: GaussianMixture, radius: float, least: int = 1) -> dict[str, float]:
    """The figures of `Modes` for draws (n, D)."""
    draws = precise(draws)
    found = draws[draws.isfinite().all(1)]
    distance, nearest = torch.cdist(found, law.means.to(found)).min(1)
    good = distance <= radius * law.std.to(found)[nearest]
    share = nearest.bincount(minlength=len(law.means)).double() / (len(found) or math.nan)
    log_ratio = torch.special.xlogy(share, share) - torch.special.xlogy(share, law.weights.to(share))
    return {
        "modes": float((nearest[good].bincount(minlength=len(law.means)) >= least).sum()),
        "high_quality": float(good.sum()) / len(draws),
        "mode_kl": float(log_ratio.sum()),
    }

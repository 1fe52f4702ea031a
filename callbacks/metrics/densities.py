"""Figures of a density."""

from __future__ import annotations

import math

from datamodules.spec import DataSpec


def bits_per_dimension(nll: float, spec: DataSpec) -> float:
    """Negative log-likelihood in nats per record -> bits per dimension.

        (nll - D ln w) / (D ln 2),   w = (hi - lo) / levels

    Where `spec.levels` is set the records are levels spread uniformly over cells of width w (dequantised), and the
    probability of a level is about density * w^D: the figure is then an upper bound on the bits of a lossless code
    (Theis et al. 2016, section 3.1), and log2(levels) for the uniform law. For continuous data w = 1: the figure then
    depends on the units of x, and can be negative.

    Returns:
        Bits per dimension; NaN where there are levels but no bounds, so that a level's width is not known.
    """
    log_width = 0.0
    if spec.levels is not None:
        if spec.bounds is None:
            return math.nan
        low, high = spec.bounds
        log_width = math.log((high - low) / spec.levels)
    return (nll - spec.dimensions * log_width) / (spec.dimensions * math.log(2))

"""How far the probabilities of a binary event are from its frequencies: binned, and smoothed by a kernel.

Throughout, `p` (n,) are forecasts in [0, 1] and `y` (n,) outcomes, 0 or 1. A figure of class probabilities is one of
these: of the highest probability and whether that class came true, or, of two classes, of the second one's.

Kernel sums are computed in the cosine basis, in which reflection at 0 and 1 is for free:

    K_s(t, p) = sum over the mirror images p' of p, those in [0, 1], [-1, 0], [1, 2], ..., of phi_s(t - p')
              = sum_k c_k exp(-(pi k s)^2 / 2) cos(pi k t) cos(pi k p),   c_0 = 1, c_k = 2

so that one pass over the records gives the sums of every bandwidth s, on every grid.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from callbacks.metrics.precision import precise

FLOOR = 1e-3
"""Smallest bandwidth that is tried: the tolerance of the authors' own package."""

NEGLIGIBLE = 1e-13
"""Weight of a cosine from which on the series is cut off."""

ROWS = 2**16
"""Records per block: what six passes over them find in the cache."""

NODES = range(-2, 4)
"""Of the grid points around a record that it is spread over, with the one on its left as 0."""

OVERSAMPLING = 8
"""Grid points per term of a series, at least."""


class Reliability(NamedTuple):
    """A smoothed reliability diagram on an even grid of [0, 1].

    - `t` (points + 1,): probabilities that could have been forecast.
    - `curve` (points + 1,): t + r(t) with r(t) = sum_i K(t, p_i) (y_i - p_i) / sum_i K(t, p_i), the frequency of the
      event where t was forecast. It can leave [0, 1] where there are next to no forecasts.
    - `density` (points + 1,): d(t) = mean_i K(t, p_i), of the forecasts; its integral is 1.
    - `error`: smooth ECE, the integral of |curve - t| density.
    - `bandwidth`: of the kernel.
    """

    t: Tensor
    curve: Tensor
    density: Tensor
    error: float
    bandwidth: float


def binned_ece(p: Tensor, y: Tensor, bins: int = 15, equal_mass: bool = False) -> float:
    """sum_b |sum of y_i - p_i over the records i of bin b| / n (Guo et al. 2017, equation 3).

    A forecast at the edge of two bins of equal width belongs to the lower one, as in the paper, whose bins are (a, b];
    torchmetrics and netcal put it into the upper one.

    Args:
        p, y: see the module.
        bins: number of bins (Guo et al. 2017, section 5: 15).
        equal_mass: bins of equally many records instead of equal width. Equal forecasts always share a bin, so that
            the figure does not depend on the order of the records.

    Returns:
        In [0, 1]; NaN without records, or with a NaN among them.
    """
    p, y = precise(p), precise(y)
    if not len(p) or bool(p.isnan().any()):
        return math.nan
    if equal_mass:
        index = torch.searchsorted(p.sort().values, p) * bins // len(p)
    else:
        index = (p * bins).ceil().long().sub(1).clamp(0, bins - 1)
    gaps = torch.zeros(bins, dtype=p.dtype, device=p.device).index_add(0, index, y - p)
    return float(gaps.abs().sum() / len(p))


class Bins(NamedTuple):
    """A binned reliability diagram, of the bins that have records, in rising order.

    - `forecast`, `frequency`: mean forecast of the bin, and how often the event came true.
    - `low`, `high`: Wilson's 95% interval of the frequency.
    - `share`: of all records.
    """

    forecast: Tensor
    frequency: Tensor
    low: Tensor
    high: Tensor
    share: Tensor


def binned(p: Tensor, y: Tensor, bins: int = 15) -> Bins:
    """Frequencies by bins of equal width, those of `binned_ece`, with Wilson's intervals (1927).

    Args:
        p, y: see the module; at least one record, no NaN.
        bins: number of bins.
    """
    p, y = precise(p), precise(y)
    index = (p * bins).ceil().long().sub(1).clamp(0, bins - 1)
    zero = torch.zeros(bins, dtype=p.dtype, device=p.device)
    count, forecast, true = (zero.index_add(0, index, value) for value in (torch.ones_like(p), p, y))
    there = count > 0
    n, forecast, frequency = count[there], (forecast / count)[there], (true / count)[there]
    z = 1.959963984540054
    middle = (frequency + z**2 / (2 * n)) / (1 + z**2 / n)
    reach = z / (1 + z**2 / n) * (frequency * (1 - frequency) / n + z**2 / (4 * n**2)).sqrt()
    return Bins(forecast, frequency, middle - reach, middle + reach, n / len(p))


def classwise_ece(proba: Tensor, y: Tensor, bins: int = 15) -> float:
    """Mean over classes k of the binned ECE of p_k and [y = k] (Kull et al. 2019, section 2), bins of equal width.

    Args:
        proba: probabilities (n, classes).
        y: classes int64 (n,).
        bins: see `binned_ece`.

    Returns:
        In [0, 1]; NaN without records, or with a NaN among them.
    """
    return _mean([binned_ece(p, y == k, bins) for k, p in enumerate(proba.T)])


def ks_error(p: Tensor, y: Tensor) -> float:
    """max over k of |sum of y_i - p_i over the k smallest forecasts| / n (Gupta et al. 2021, equation 10): no bins.

    Equal forecasts come together, so that the figure does not depend on the order of the records.

    Args:
        p, y: see the module.

    Returns:
        In [0, 1]; NaN without records, or with a NaN among them.
    """
    p, y = precise(p), precise(y)
    if not len(p) or bool(p.isnan().any()):
        return math.nan
    levels, place = p.unique(return_inverse=True)
    sums = torch.zeros(len(levels), dtype=p.dtype, device=p.device).index_add_(0, place, y - p)
    return float(sums.cumsum(0).abs().max() / len(p))


class BrierParts(NamedTuple):
    """Parts of a Brier score, summed over classes; score = reliability - resolution + uncertainty + within.

    - `reliability`: weighted squared distance of forecasts from frequencies, over bins; 0 is calibrated.
    - `resolution`: weighted squared distance of the bins' frequencies from the overall ones; more is better.
    - `uncertainty`: sum of f_k (1 - f_k), f the frequencies of the classes: no forecast changes it.
    - `within`: what forecasts that differ inside a bin add; 0 with one forecast per bin (Stephenson et al. 2008).
    """

    reliability: float
    resolution: float
    uncertainty: float
    within: float


def brier_parts(proba: Tensor, y: Tensor, bins: int = 15) -> BrierParts:
    """Murphy's decomposition (1973) of sum_k (p_k - [y = k])^2, by bins of equal width of each class's probability.

    Args:
        proba: probabilities (n, classes).
        y: classes int64 (n,).
        bins: of equal width.

    Returns:
        NaN each without records, or with a NaN among them.
    """
    proba = precise(proba)
    if not len(proba) or bool(proba.isnan().any()):
        return BrierParts(*[math.nan] * 4)
    happened = torch.nn.functional.one_hot(y, proba.shape[1]).to(proba)
    index = (proba * bins).ceil().long().sub(1).clamp(0, bins - 1)
    zero = proba.new_zeros(bins, proba.shape[1])
    count, forecast, true = (zero.scatter_add(0, index, value) for value in (torch.ones_like(proba), proba, happened))
    size = count.clamp(min=1)
    overall = happened.mean(0)
    reliability = (count * (forecast / size - true / size).square()).sum() / len(proba)
    resolution = (count * (true / size - overall).square()).sum() / len(proba)
    uncertainty = (overall * (1 - overall)).sum()
    score = (proba - happened).square().sum(1).mean()
    return BrierParts(
        float(reliability), float(resolution), float(uncertainty),
        float(score - (reliability - resolution + uncertainty)),
    )  # fmt: skip


def _mean(values: list[float]) -> float:
    """Mean of figures; NaN of none."""
    return sum(values) / len(values) if values else math.nan


def smooth_ece(p: Tensor, y: Tensor, bandwidth: float | None = None) -> float:
    """Smooth ECE: a calibration error that is continuous in the forecasts.

        smECE_s = integral over t in [0, 1] of |mean_i K_s(t, p_i) (y_i - p_i)|

    It falls as s grows; smECE is its value at the one s with smECE_s = s.

    Moving forecasts by e on average moves smECE by at most e + sqrt(sqrt(2 / pi) e): at a fixed s by at most
    (1 + sqrt(2 / pi) / s) e, since two Gaussians at distance e differ by sqrt(2 / pi) e / s in L1. So it is
    at most that for a law whose forecasts are within e of calibrated ones.

    Błasiok and Nakkiran 2024, "Smooth ECE: Principled Reliability Diagrams via Kernel Smoothing". The integral
    is a trapezoid sum with an error below 1e-6.

    Deviations: (1) cosine series instead of the authors' convolution on a grid, whose error this does not share.
    (2) Where the solution lies below `FLOOR`, the value is that at `FLOOR`, as in the authors' package.

    Args:
        p, y: see the module.
        bandwidth: a fixed s above 0; None: the solution of smECE_s = s.

    Returns:
        In [0, 1]; NaN without records, or with a NaN among them.

    Raises:
        ValueError: a bandwidth that is not positive.
    """
    p, y = precise(p), precise(y)
    if not len(p) or bool(p.isnan().any()):
        return math.nan
    if bandwidth is None:
        return _solved(moments(p, y - p, FLOOR))[0]
    return float(_integral(moments(p, y - p, bandwidth), bandwidth))


def reliability(p: Tensor, y: Tensor, points: int = 512) -> Reliability:
    """The smoothed reliability diagram, with the bandwidth of `smooth_ece`.

    Błasiok and Nakkiran 2024: its distance from the diagonal, weighted by the density, is smooth ECE.

    Args:
        p, y: see the module; at least one record, no NaN.
        points: intervals of the grid.
    """
    p, y = precise(p), precise(y)
    residual = moments(p, y - p, FLOOR)
    error, bandwidth = _solved(residual)
    gap = smoothed(residual, bandwidth, points)
    density = smoothed(moments(p, torch.ones_like(p), FLOOR), bandwidth, points)
    t = torch.linspace(0, 1, points + 1, dtype=p.dtype, device=p.device)
    # Between far-away forecasts both sums are rounding errors of zero: nothing is known there, not even a gap.
    known = density > 1e-9
    curve = t + torch.where(known, gap / torch.where(known, density, 1), 0)
    return Reliability(t, curve, density.clamp(min=0), error, bandwidth)


def band(
    p: Tensor, y: Tensor, bandwidth: float, points: int = 512, replicates: int = 200, level: float = 0.95
) -> tuple[Tensor, Tensor]:
    """Where the curve of `reliability` lies in bootstrap replicates: lower and upper ends (points + 1,) each.

    Records are drawn with replacement from torch's global state; a replicate has the bandwidth of the records and, to
    be quick, forecasts rounded to the grid of the curve. Where a replicate has next to no forecasts, its curve is the
    diagonal.

    Args:
        p, y: see the module.
        bandwidth: of the kernel.
        points: intervals of the grid.
        replicates: 200.
        level: share of the replicates between the two ends.
    """
    p, y = precise(p).cpu(), precise(y).cpu()
    cell = (p * points).round().long()
    rows = torch.randint(len(p), (replicates, len(p)))
    zero = torch.zeros(replicates, points + 1, dtype=p.dtype)
    gap, count = (zero.scatter_add(1, cell[rows], value[rows]) / len(p) for value in (y - p, torch.ones_like(p)))
    t = torch.linspace(0, 1, points + 1, dtype=p.dtype)
    images = torch.stack([t, -t, 2 - t])[:, :, None]
    kernel = torch.exp(-0.5 * ((images - t) / bandwidth).square()).sum(0) / (bandwidth * math.sqrt(2 * math.pi))
    density = count @ kernel
    known = density > 1e-9
    curves = t + torch.where(known, gap @ kernel / torch.where(known, density, 1), 0)
    ends = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=p.dtype)
    low, high = curves.quantile(ends, dim=0)
    return low, high


def moments(p: Tensor, values: Tensor, bandwidth: float) -> Tensor:
    """mean_i values_i cos(pi k p_i) for k = 0, 1, ..., as far as a kernel of this or a larger bandwidth needs them.

    Records are spread over the six nearest points of an even grid, by the weights of Lagrange's interpolation, and the
    sums over the grid are a Fourier transform. The grid has `OVERSAMPLING` points per term: what a kernel makes of the
    moments errs by less than 1e-9 of the mean of |values|.

    Args:
        p, values: (n,), float64.
        bandwidth: above 0.

    Returns:
        (terms,), float64.
    """
    if bandwidth <= 0:
        raise ValueError(f"bandwidth={bandwidth}: it must be above 0")
    terms = math.ceil(math.sqrt(-2 * math.log(NEGLIGIBLE)) / (math.pi * bandwidth)) + 1
    cells = max(256, 2 ** math.ceil(math.log2(OVERSAMPLING * terms)))
    grid = torch.zeros(cells + 1, dtype=p.dtype, device=p.device)
    for part, weights in zip(p.split(ROWS), values.split(ROWS), strict=True):
        place = part * cells
        left = place.floor().clamp(max=cells - 1)
        share = place - left
        for node in NODES:
            others = [other for other in NODES if other != node]
            weight = weights / math.prod(node - other for other in others)
            for other in others:
                weight = weight * (share - other)
            at = (left.long() + node).abs()  # reflected at 0, and at 1
            grid.index_add_(0, cells - (cells - at).abs(), weight)
    grid[1:-1] /= 2
    mirrored = torch.cat([grid, grid[1:-1].flip(0)])
    return torch.fft.rfft(mirrored).real[:terms] / len(p)


def smoothed(moment: Tensor, bandwidth: float, points: int) -> Tensor:
    """mean_i K_s(t, p_i) values_i at t = 0, 1 / points, ..., 1, from the `moments` of the values: (points + 1,)."""
    k = torch.arange(len(moment), dtype=moment.dtype, device=moment.device)
    series = moment * torch.exp(-0.5 * (math.pi * bandwidth * k).square())
    # The even extension to [-1, 1] has period 2, and `irfft` adds the factors c_k. It takes as many terms as its grid
    # has points: a coarser one is every few points of one that is fine enough.
    every = math.ceil(len(moment) / points)
    return torch.fft.irfft(series, n=2 * points * every, norm="forward")[: points * every + 1 : every]


def _integral(residual: Tensor, bandwidth: float) -> Tensor:
    """smECE_s from the moments of y - p."""
    # 64 points per bandwidth and 8192 at least: |.| has kinks, at which a trapezoid sum errs by (slope * step^2) / 8.
    points = max(8192, math.ceil(64 / bandwidth))
    return torch.trapezoid(smoothed(residual, bandwidth, points).abs(), dx=1 / points)


def _solved(residual: Tensor) -> tuple[float, float]:
    """(smECE, its bandwidth) from the moments of y - p: where smECE_s - s, which falls to below 0, is 0."""
    from scipy.optimize import brentq

    at_floor = float(_integral(residual, FLOOR))
    if at_floor <= FLOOR:
        return at_floor, FLOOR
    bandwidth = brentq(lambda s: float(_integral(residual, s)) - s, FLOOR, 2.0, xtol=1e-10, rtol=1e-12)
    return min(bandwidth, 1.0), bandwidth

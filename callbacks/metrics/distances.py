"""Distances between two sets of records: sliced Wasserstein, maximum mean discrepancy, Fréchet.

All take `a` (N, D) and `b` (M, D), compute in float64 and return a scalar. Records that are not finite make it NaN.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps

import torch
from torch import Tensor

from compendium.seeding import generator

BLOCK_ROWS = 1024
MEDIAN_ROWS = 1000

Distance = Callable[..., Tensor]


def _in_float64(distance: Distance) -> Distance:
    @wraps(distance)
    def checked(a: Tensor, b: Tensor, *args: object, **kwargs: object) -> Tensor:
        a, b = a.double(), b.double()
        if not (a.isfinite().all() and b.isfinite().all()):
            return a.new_tensor(torch.nan)
        return distance(a, b, *args, **kwargs)

    return checked


def projections(dimensions: int, count: int, seed: int = 0) -> Tensor:
    """`count` directions, uniform on the unit sphere, as columns (D, count), float64; a function of the seed."""
    directions = torch.randn(dimensions, count, generator=generator(seed, "projections"), dtype=torch.float64)
    return directions / directions.norm(dim=0)


@_in_float64
def sliced_wasserstein(a: Tensor, b: Tensor, directions: Tensor) -> Tensor:
    """(mean over directions t of W2(a t, b t)^2)^(1/2), in the units of the records (Bonneel et al. 2015).

    On the line W2^2 is the integral over u in (0, 1) of (F_a^-1(u) - F_b^-1(u))^2. The quantile functions of N and M
    records are step functions: the integral is an exact sum over the steps of both, also where N and M differ.

    Args:
        a: (N, D).
        b: (M, D).
        directions: unit columns (D, P), see `projections`.
    """
    n, m = len(a), len(b)
    directions = directions.to(a)
    # Ends of the steps in units of 1 / (N M), so that equal ones are equal as integers.
    ends_a = torch.arange(1, n + 1, device=a.device) * m
    ends_b = torch.arange(1, m + 1, device=a.device) * n
    ends = torch.cat([ends_a, ends_b]).unique()
    width = ends.diff(prepend=ends.new_zeros(1)).double() / (n * m)
    quantiles_a = (a @ directions).sort(0).values[torch.searchsorted(ends_a, ends)]
    quantiles_b = (b @ directions).sort(0).values[torch.searchsorted(ends_b, ends)]
    return (width @ (quantiles_a - quantiles_b).square()).mean().sqrt()


def median_bandwidth(records: Tensor) -> Tensor:
    """Median distance between two different records, of the first `MEDIAN_ROWS`; 1 where it is 0."""
    median = torch.pdist(records[:MEDIAN_ROWS].double()).median()
    return torch.where(median > 0, median, 1.0)


@_in_float64
def squared_mmd(a: Tensor, b: Tensor, bandwidth: Tensor | float) -> Tensor:
    """Squared maximum mean discrepancy: the unbiased estimate of E k(a, a') + E k(b, b') - 2 E k(a, b).

    The kernel is k(x, y) = exp(-|x - y|^2 / (2 h^2)); a U-statistic: pairs of a record with itself are left out
    (Gretton et al. 2012, equation 3). It is about 0, and as often below as above, where both laws are the same.

    Args:
        a: (N, D) with N at least 2.
        b: (M, D) with M at least 2.
        bandwidth: h, in the units of the records; usually `median_bandwidth` of the real ones.
    """
    n, m = len(a), len(b)
    within_a = (_kernel_sum(a, a, bandwidth) - n) / (n * (n - 1))
    within_b = (_kernel_sum(b, b, bandwidth) - m) / (m * (m - 1))
    return within_a + within_b - 2 * _kernel_sum(a, b, bandwidth) / (n * m)


def _kernel_sum(a: Tensor, b: Tensor, bandwidth: Tensor | float) -> Tensor:
    # In blocks, so that memory grows with the number of records and not with its square. Distances without the
    # inner-product shortcut: it leaves |x - x| above 0, and the diagonal has to be exactly 1 each.
    total = a.new_zeros(())
    for rows in a.split(BLOCK_ROWS):
        distance = torch.cdist(rows, b, compute_mode="donot_use_mm_for_euclid_dist")
        total = total + torch.exp(-distance.square() / (2 * bandwidth**2)).sum()
    return total


@_in_float64
def frechet(a: Tensor, b: Tensor) -> Tensor:
    """Squared 2-Wasserstein distance between Gaussians fitted to a and b: the "Fréchet distance" of FID.

        |m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2))        (Dowson and Landau 1982; Heusel et al. 2017)

    with unbiased covariances S. Where S_a = A^T A and S_b = B^T B, tr (S_a S_b)^(1/2) is the sum of the singular
    values of A B^T: no square root of a matrix, and no trouble where there are fewer records than dimensions.

    Args:
        a: (N, D) with N at least 2.
        b: (M, D) with M at least 2.
    """
    factors = []
    for records in (a, b):
        centred = (records - records.mean(0)) / (len(records) - 1) ** 0.5
        factors.append(torch.linalg.qr(centred, mode="r").R)
    cross = torch.linalg.svdvals(factors[0] @ factors[1].T).sum()
    shift = (a.mean(0) - b.mean(0)).square().sum()
    return (shift + factors[0].square().sum() + factors[1].square().sum() - 2 * cross).clamp_min(0)

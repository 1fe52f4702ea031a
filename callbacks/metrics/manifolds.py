"""How much of one set of records lies where another has some, by nearest neighbours.

All take features `real` (N, D) and `fake` (M, D) and compute in float64. Features that are not finite make it NaN, and
so do fewer than k + 1 of them.
"""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_ROWS = 1024


def precision_recall(real: Tensor, fake: Tensor, k: int = 3) -> tuple[Tensor, Tensor]:
    """Improved precision and recall, two scalars in [0, 1].

    A set's manifold is the union of balls around its points, each out to the k-th nearest other point of the set.
    Precision is the share of `fake` in the manifold of `real`, recall the share of `real` in the manifold of `fake`.

    Kynkäänniemi et al. 2019, "Improved Precision and Recall Metric for Assessing Generative Models", equations 1 and 2.

    The balls shrink as a set grows: compare figures of equally many points, and take N = M as the paper does.

    Args:
        real: (N, D).
        fake: (M, D).
        k: which neighbour, 3 in the paper (section 2).
    """
    if not usable(real, fake, k):
        return _nan(), _nan()
    real, fake = real.double(), fake.double()
    within_real, within_fake = radii(real, k), radii(fake, k)
    hit_fake = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    hit_real = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for start in range(0, len(fake), BLOCK_ROWS):
        rows = slice(start, start + BLOCK_ROWS)
        distance = distances(fake[rows], real)
        hit_fake[rows] = (distance <= within_real).any(1)
        hit_real |= (distance <= within_fake[rows, None]).any(0)
    return hit_fake.double().mean(), hit_real.double().mean()


def realism(real: Tensor, fake: Tensor, k: int = 3) -> Tensor:
    """How near each of `fake` lies to the records, seen from how near these lie to each other (M,).

        max over r of NN_k(r) / |fake - r|

    over the half of the real points with the smaller NN_k(r), the distance to the k-th nearest other; at least 1 means
    inside one of their balls, infinite is a copy. Kynkäänniemi et al. 2019, equation 3 and section 5.
    """
    if not usable(real, fake, k, of_fake=0):
        return torch.full((len(fake),), torch.nan, dtype=torch.float64)
    real, fake = real.double(), fake.double()
    radius = radii(real, k)
    kept = radius <= radius.median()
    return torch.cat([(radius[kept] / distances(rows, real[kept])).amax(1) for rows in fake.split(BLOCK_ROWS)])


def mean_distance(points: Tensor) -> Tensor:
    """Mean distance between two different points of (N, D), a scalar: how diverse they are."""
    if not usable(points, points, 1):
        return _nan()
    points = points.double()
    total = torch.stack([distances(rows, points).sum() for rows in points.split(BLOCK_ROWS)]).sum()
    return total / (len(points) * (len(points) - 1))


def radii(points: Tensor, k: int) -> Tensor:
    """Distance of each of (N, D) to its k-th nearest other point (N,)."""
    # The nearest of all is the point itself, at exactly 0.
    return torch.cat([distances(rows, points).kthvalue(k + 1).values for rows in points.split(BLOCK_ROWS)])


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Distances (N, M); without the inner-product shortcut, which leaves |x - x| above 0."""
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")


def usable(real: Tensor, fake: Tensor, k: int, of_fake: int | None = None) -> bool:
    """Whether all are finite, and each real point has k others, each fake one k or `of_fake`."""
    return (
        len(real) > k
        and len(fake) > (k if of_fake is None else of_fake)
        and bool(real.isfinite().all() and fake.isfinite().all())
    )


def _nan() -> Tensor:
    return torch.tensor(torch.nan, dtype=torch.float64)

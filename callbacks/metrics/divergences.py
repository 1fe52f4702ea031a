"""Divergences between two laws that are known by samples alone."""

from __future__ import annotations

import torch
from torch import Tensor


def knn_kl(p: Tensor, q: Tensor, k: int = 5) -> Tensor:
    """Kullback-Leibler divergence KL(P || Q) in nats, from samples p (N, D) of P and q (M, D) of Q; a scalar, float64.

        D / N sum_i log(nu_k(i) / rho_k(i)) + log(M / (N - 1))

    rho_k(i) is the distance from p_i to its k-th nearest neighbour among the other p, nu_k(i) to that among the q.
    Consistent for every k, with a bias that k trades for variance and that grows with D.

    Wang, Kulkarni and Verdu 2009, "Divergence Estimation for Multidimensional Densities Via k-Nearest-Neighbor
    Distances", equation 14.

    Samples that are not finite make it NaN; so do fewer than k + 1 of p or k of q. Coinciding points would have a
    logarithm of zero: distances are kept above the smallest positive float.

    Args:
        p, q: samples.
        k: which neighbour.
    """
    from scipy.spatial import KDTree

    if not (p.isfinite().all() and q.isfinite().all()) or len(p) < k + 1 or len(q) < k:
        return torch.tensor(torch.nan, dtype=torch.float64)
    points, others = p.double().cpu().numpy(), q.double().cpu().numpy()
    own = torch.from_numpy(KDTree(points).query(points, [k + 1])[0])  # the nearest is the point itself
    other = torch.from_numpy(KDTree(others).query(points, [k])[0])
    least = torch.finfo(torch.float64).tiny
    ratio = other.clamp(min=least).log() - own.clamp(min=least).log()
    return p.shape[1] * ratio.mean() + torch.tensor(len(q) / (len(p) - 1), dtype=torch.float64).log()

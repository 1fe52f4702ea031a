"""OptCS: conformal selection that chooses the model on the very records that it calibrates with and selects from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import SelectionTask
from datamodules.spec import DataSpec
from modules.uncertainty.conformal_selection import ConformalSelection, at_most, largest, step_up

PRUNINGS = ("heterogeneous", "homogeneous", "deterministic")


class OptimizedConformalSelection(ConformalSelection):
    """OptCS-MSel: the most powerful of K candidates, chosen for each record j of the pool by a rule that does not tell
    j from the labelled records. Then its p-value is valid, and what the p-values' dependence costs is pruned.

    For j, and each candidate k with scores V^k of the labelled records and W^k of the pool, the p-values of the others
    as if j were a labelled record with target c, and the size of the selection in which j is sure to be:

        p_l^(j,k) = (#{i : V_i^k <= W_l^k} + [W_j^k <= W_l^k]) / (n + 1) for l != j,   p_j^(j,k) = 0
        R_j^k = the selection of Benjamini and Hochberg at level q from p_1^(j,k), ..., p_m^(j,k)

    k(j) is a k with the largest |R_j^k|, ties broken at random, and with R_j = R_j^k(j),

        p_j = (1 + #{i : V_i^k(j) <= W_j^k(j)}) / (n + 1)
        select j where p_j <= q |R_j| / m and xi_j |R_j| <= r*,
        r* = the largest r such that #{j : p_j <= q |R_j| / m, xi_j |R_j| <= r} >= r

    with xi_j independent U(0, 1) (heterogeneous), one U(0, 1) for all (homogeneous), or 1 (deterministic). The false
    discovery rate is at most q. With one candidate all three are conformal selection with U_j = 1, exactly: |R_j| is
    then the size of its selection for every j in it.

    Bai and Jin 2024, "Optimized Conformal Selection", section 4: selection among pretrained models;
    the steps are those of the authors' code for section 5.1.

    Deviations: those of `ConformalSelection`'s candidates; and p_j counts ties (the authors' code has a strict
    inequality), which keeps it valid for scores with ties and changes nothing without.

    Args:
        spec: records with a real target.
        pruning: `heterogeneous`, `homogeneous` or `deterministic`.
        parts: the arguments of `ConformalSelection`.

    Raises:
        UserError: an unknown pruning.
    """

    def __init__(self, spec: DataSpec | Mapping[str, Any], pruning: str = "homogeneous", **parts: Any) -> None:
        super().__init__(spec, **parts)
        if pruning not in PRUNINGS:
            raise UserError(f"model.pruning={pruning} is unknown.", f"there are: {', '.join(PRUNINGS)}")
        self.pruning = pruning

    def select(self, task: SelectionTask) -> Tensor:
        """B problems -> which records of each pool are chosen, bool (B, m)."""
        calibration, pool = self.scores(task)
        n, m = calibration.shape[2], pool.shape[2]
        sizes = sizes_with_each(calibration, pool, self.level)
        chosen = largest(sizes)[:, None]
        size = sizes.gather(1, chosen).squeeze(1)
        p = (1 + at_most(calibration, pool).gather(1, chosen).squeeze(1)).double() / (n + 1)
        weighted = self.xi(size) * size
        weighted = weighted.masked_fill(p > self.level * size / m, torch.inf)
        return step_up(weighted, torch.arange(1, m + 1, dtype=weighted.dtype, device=weighted.device))

    def xi(self, size: Tensor) -> Tensor:
        """The factors of the pruning for pools (B, m): (B, m) or (B, 1), float64."""
        shape = {"heterogeneous": size.shape, "homogeneous": (len(size), 1)}.get(self.pruning)
        if shape is None:
            return torch.ones(len(size), 1, dtype=torch.float64, device=size.device)
        return torch.rand(shape, dtype=torch.float64, device=size.device)


def sizes_with_each(calibration: Tensor, pool: Tensor, level: float) -> Tensor:
    """|R_j| for every j: sizes of the selections that take j for sure and for a labelled record.

    Sorted by W, moving j to the front raises the ranks of those before it by one, and [W_j <= W_l] adds one to the
    counts of those after it. Neither depends on j beyond its place, so that running maxima of the ranks that pass,
    from the left and from the right, give all m sizes in O(m log m) instead of O(m^2).

    Args:
        calibration: V (..., n).
        pool: W (..., m).
        level: q.

    Returns:
        int64 (..., m), 1 at least: j itself.
    """
    n, m = calibration.shape[-1], pool.shape[-1]
    ordered, order = pool.contiguous().sort(-1)
    count = at_most(calibration, ordered).double()
    rank = torch.arange(1, m + 1, device=pool.device)
    before = torch.where(count / (n + 1) <= level * (rank + 1).double() / m, rank + 1, 1).cummax(-1).values
    after = torch.where((count + 1) / (n + 1) <= level * rank.double() / m, rank, 1).flip(-1).cummax(-1).values.flip(-1)
    one = torch.ones_like(before[..., :1])
    # Equal scores stand after j, whichever of them j is: its place is the first of theirs.
    place = torch.searchsorted(ordered, ordered)
    passed = torch.maximum(
        torch.cat([one, before], -1).gather(-1, place), torch.cat([after, one], -1).gather(-1, place + 1)
    )
    return torch.empty_like(passed).scatter_(-1, order, passed)

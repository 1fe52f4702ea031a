"""Conformal selection with one model, and what its relatives that choose among models share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from compendium.errors import UserError
from datamodules.batches import Labelled, SelectionTask
from datamodules.spec import DataSpec
from modules.method import SolvedMethod


class ConformalSelection(SolvedMethod):
    """Selects records with a target above c from a pool of m, such that the expected share of wrong ones is at most q.

    With a regression mu and the score V(x, y) = M [y > c] - mu(x), M -> infinity, of n labelled records and of the
    pool with c in the place of the unknown target, V_i = V(x_i, y_i) and W_j = -mu(x_j):

        p_j = (#{i : V_i < W_j} + U_j (1 + #{i : V_i = W_j})) / (n + 1),   U_j ~ U(0, 1)

    and the selection is that of Benjamini and Hochberg (1995) at level q: the r records with the smallest p-values, for
    the largest r such that the r-th is at most q r / m. For exchangeable records and a mu that is independent of them,
    the false discovery rate is at most q in finite samples.

    Jin and Candès 2023, "Selection by Prediction with Conformal p-values": the random p-values and the clipped score.

    The regressions are `candidates` ridge regressions, each on a random share of the features (the authors' candidates
    for `data.setting=linear`), fitted on the training split. This method takes the first: a model at random, the first
    baseline of Bai and Jin 2024, section 5.1.

    Deviations: Bai and Jin's candidates are nine linear regressions of the 10%, ..., 90% quantile on a tenth of the
    features each, and one of the mean on a fifth, with and without an estimate of the spread.

    Args:
        spec: records with a real target.
        level: q, in (0, 1); 0.3, of the authors' 0.2, 0.25, ..., 0.5.
        candidates: number of regressions; 11, as in Bai and Jin.
        share: of the features that each sees, in (0, 1]; a tenth, as there.
        ridge: added to the diagonal of the Gram matrix, above 0; 1, scikit-learn's default, as in the authors' Ridge.
        parts: see `Method`.

    Raises:
        UserError: an argument out of range.
    """

    count: Tensor
    sum_x: Tensor
    sum_y: Tensor
    gram: Tensor
    products: Tensor
    features: Tensor
    weight: Tensor
    bias: Tensor

    batch_type = Labelled
    kinds = ("vector", "image")
    targets = ("real",)
    papers = ("bai2024optimized",)

    def __init__(
        self,
        spec: DataSpec | Mapping[str, Any],
        level: float = 0.3,
        candidates: int = 11,
        share: float = 0.1,
        ridge: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(spec, **parts)
        if not 0 < level < 1:
            raise UserError(f"model.level={level}: it is a rate of false discoveries, in (0, 1).")
        if candidates < 1:
            raise UserError(f"model.candidates={candidates}: there is at least one.")
        if not 0 < share <= 1:
            raise UserError(f"model.share={share}: it is a share of the features, in (0, 1].")
        if ridge <= 0:
            raise UserError(f"model.ridge={ridge}: it must be above 0, or there may be no solution.")
        self.level, self.ridge = level, ridge
        width = self.spec.dimensions
        seen = max(1, round(share * width))
        self.register_buffer("features", torch.rand(candidates, width).argsort(1)[:, :seen])
        for name, shape in (("count", ()), ("sum_x", (width,)), ("sum_y", ()), ("gram", (width, width))):
            self.register_buffer(name, torch.zeros(shape, dtype=torch.float64))
        self.register_buffer("products", torch.zeros(width, dtype=torch.float64))
        self.register_buffer("weight", torch.zeros(width, candidates, dtype=torch.float64))
        self.register_buffer("bias", torch.zeros(candidates, dtype=torch.float64))

    def accumulate(self, batch: Labelled) -> None:
        x, y = batch.x.flatten(1).double(), batch.y.double()
        sums = (torch.full_like(self.count, len(x)), x.sum(0), y.sum(), x.T @ x, x.T @ y)
        totals = (self.count, self.sum_x, self.sum_y, self.gram, self.products)
        for total, value in zip(totals, sums, strict=True):
            total += self.sum_of_all(value)

    def solve(self) -> None:
        """w_k = (X_k' X_k + ridge I)^-1 X_k' y with centred features of candidate k and a free intercept."""
        mean = self.sum_x / self.count
        gram = self.gram - self.count * mean[:, None] * mean
        products = self.products - self.sum_y * mean
        own = gram[self.features[:, :, None], self.features[:, None, :]]
        own = own + self.ridge * torch.eye(own.shape[1], dtype=own.dtype, device=own.device)
        weight = torch.linalg.solve(own, products[self.features])
        self.weight.zero_().scatter_(0, self.features.T, weight.T)
        self.bias.copy_(self.sum_y / self.count - mean @ self.weight)

    def select(self, task: SelectionTask) -> Tensor:
        """B problems -> which records of each pool are chosen, bool (B, m)."""
        calibration, pool = self.scores(task)
        return benjamini_hochberg(conformal_p_values(calibration[:, 0], pool[:, 0]), self.level)

    def scores(self, task: SelectionTask) -> tuple[Tensor, Tensor]:
        """V of the labelled records (B, candidates, n) and W of the pool (B, candidates, m), of each candidate."""
        labelled, pool = (-self.predict(x).mT for x in (task.calibration_x, task.pool_x))
        above = task.calibration_y > task.threshold[:, None]
        return labelled.masked_fill(above[:, None], torch.inf), pool

    def predict(self, x: Tensor) -> Tensor:
        """Records (B, n, ...) -> mu of each candidate (B, n, candidates), float64."""
        return x.flatten(2).double() @ self.weight + self.bias


def at_most(calibration: Tensor, scores: Tensor, strict: bool = False) -> Tensor:
    """#{i : V_i <= W_j}, or with `strict` #{i : V_i < W_j}: V (..., n), W (..., m) -> int64 (..., m)."""
    return torch.searchsorted(ascending(calibration), scores.contiguous(), right=not strict)


def ascending(values: Tensor) -> Tensor:
    """Values (..., n) in rising order.

    On a CPU by NumPy, which is sixteen times as fast at 10^5 as torch, whose sort always finds the order as well.
    """
    if values.is_cpu and values.dtype in (torch.float32, torch.float64):
        return torch.from_numpy(np.sort(values.detach().contiguous().numpy(), -1))
    return values.sort(-1).values.contiguous()


def conformal_p_values(calibration: Tensor, pool: Tensor) -> Tensor:
    """(#{i : V_i < W_j} + U_j (1 + #{i : V_i = W_j})) / (n + 1): V (..., n), W (..., m) -> (..., m), float64.

    U_j ~ U(0, 1) comes from torch's global random state.
    """
    below = at_most(calibration, pool, strict=True)
    tied = 1 + at_most(calibration, pool) - below
    return (below + torch.rand_like(pool, dtype=torch.float64) * tied) / (calibration.shape[-1] + 1)


def step_up(values: Tensor, critical: Tensor) -> Tensor:
    """Select all values up to critical_r, for the largest r such that the r-th smallest value is at most critical_r.

    Args:
        values: (..., m).
        critical: (m,), rising.

    Returns:
        bool (..., m).
    """
    passes = ascending(values) <= critical
    rank = torch.arange(1, len(critical) + 1, device=values.device)
    largest = (passes * rank).amax(-1, keepdim=True)
    return (values <= critical[(largest - 1).clamp(min=0)]) & (largest > 0)


def benjamini_hochberg(p: Tensor, level: float) -> Tensor:
    """Benjamini and Hochberg 1995: p-values (..., m) -> which are rejected at a level, bool (..., m)."""
    count = p.shape[-1]
    return step_up(p, level * torch.arange(1, count + 1, dtype=p.dtype, device=p.device) / count)


def largest(sizes: Tensor) -> Tensor:
    """Whole numbers (B, K, ...) -> the k with the largest one, (B, ...); ties broken by torch's global random state."""
    return (sizes + torch.rand_like(sizes, dtype=torch.float64)).argmax(1)

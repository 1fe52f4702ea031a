"""Approximate implicit differentiation: the hypergradient from a linear system in the lower level's curvature."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError
from modules.optimization.bilevel import LOWER, UPPER, BilevelMethod

SOLVERS = ("cg", "neumann")


class ImplicitHypergradient(BilevelMethod):
    """AID: the gradient by the implicit function theorem at y after lower_steps gradient steps from where it was.

        estimate = grad_x F(x, y) - g_xy(x, y) q,   g_yy(x, y) q = grad_y F(x, y)

    q is found by `solver_steps` of conjugate gradients, or by as many terms of Neumann's series, q = rate sum_k (I -
    rate g_yy)^k grad_y F, each with one second-order product; one more gives g_xy q (Pedregosa 2016, "Hyperparameter
    optimization with approximate gradient"; Lorraine et al. 2020, "Optimizing millions of hyperparameters by implicit
    differentiation").

    Args:
        solver: `cg` or `neumann`.
        solver_steps: its number of steps, at least 1.
        parts: see `BilevelMethod`.

    Raises:
        UserError: an unknown solver, or no step.
    """

    def __init__(self, *arguments: Any, solver: str = "cg", solver_steps: int = 10, **parts: Any) -> None:
        super().__init__(*arguments, **parts)
        if solver not in SOLVERS:
            raise UserError(f"model.solver={solver}: there is none of that name.", f"one of {', '.join(SOLVERS)}")
        if solver_steps < 1:
            raise UserError(f"model.solver_steps={solver_steps}: at least 1.")
        self.solver, self.solver_steps = solver, solver_steps

    def hypergradient(self, x: Tensor, batch: Any) -> Tensor:
        y = self.y
        for part in self.lower_batches(batch, self.lower_steps):
            y = y - self.lower_rate * self.gradients(LOWER, x, y, part)[1]
        self.y = y
        by_x, by_y = self.gradients(UPPER, x, y, self.upper_records())
        solve = self.conjugate if self.solver == "cg" else self.series
        return by_x - self.products(x, y, solve(x, y, by_y, batch), batch)[0]

    def conjugate(self, x: Tensor, y: Tensor, v: Tensor, batch: Any) -> Tensor:
        """Conjugate gradients for g_yy q = v (q,), from 0."""
        q, residual = torch.zeros_like(v), v
        direction, size = v, v @ v
        for _ in range(self.solver_steps):
            curved = self.products(x, y, direction, batch)[1]
            step = size / (direction @ curved).clamp_min(1e-300)  # all zeros once the residual is 0
            q, residual = q + step * direction, residual - step * curved
            size, last = residual @ residual, size
            direction = residual + size / last.clamp_min(1e-300) * direction
        return q

    def series(self, x: Tensor, y: Tensor, v: Tensor, batch: Any) -> Tensor:
        """Neumann's series for g_yy q = v (q,)."""
        term = self.lower_rate * v
        q = term
        for _ in range(self.solver_steps):
            term = term - self.lower_rate * self.products(x, y, term, batch)[1]
            q = q + term
        return q

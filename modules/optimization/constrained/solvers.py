"""Solvers of the Newton system A x = b, A symmetric: exact, by Krylov subspaces, and by random sketches."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, gmres
from torch import Tensor
from torch.linalg import vector_norm

from compendium.errors import UserError


class Solver:
    """Improves on x until |A x - b| is at most a target, and counts floating point operations.

    A product with A is counted as 2 per entry that is not 0.
    """

    def solve(self, matrix: Tensor, b: Tensor, x: Tensor, target: float) -> tuple[Tensor, float]:
        """A (d, d), b (d,), a first x (d,) -> a better x (d,), and the operations."""
        raise NotImplementedError


class Exact(Solver):
    """A factorization, counted as d^3 / 3 + 2 d^2 operations."""

    def solve(self, matrix: Tensor, b: Tensor, x: Tensor, target: float) -> tuple[Tensor, float]:
        return torch.linalg.solve(matrix, b), len(b) ** 3 / 3 + 2 * len(b) ** 2


class GMRES(Solver):
    """Generalized minimal residuals, without a restart: 2 per entry of A and 4 d j operations in iteration j."""

    def solve(self, matrix: Tensor, b: Tensor, x: Tensor, target: float) -> tuple[Tensor, float]:
        a, seen = matrix.cpu().numpy(), []
        product = LinearOperator(a.shape, matvec=lambda v: a @ v, dtype=a.dtype)
        found, _ = gmres(
            product,
            b.cpu().numpy(),
            x0=x.cpu().numpy(),
            rtol=0.0,
            atol=target,
            restart=len(b),
            maxiter=3,
            callback=seen.append,
            callback_type="pr_norm",
        )
        d, places = len(b), np.arange(len(seen)) % len(b) + 1
        return torch.from_numpy(found).to(b), 2.0 * np.count_nonzero(a) * len(seen) + 4.0 * d * float(places.sum())


class Kaczmarz(Solver):
    """Randomized Kaczmarz: x <- x + a_i (b_i - a_i . x) / |a_i|^2 with a random row a_i of A, the canonical sketch.

    4 operations per entry of the row that is not 0; after every d sketches the residual is computed, as a product with
    A. It stops at `most` sketches. Rows are drawn evenly, from torch's state, as the authors' code draws them.

    Args:
        most: sketches for one system, at least 1; the code has 100,000.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, most: int = 20_000) -> None:
        if most < 1:
            raise UserError(f"model.solver.most={most}: at least 1.")
        self.most = most

    def solve(self, matrix: Tensor, b: Tensor, x: Tensor, target: float) -> tuple[Tensor, float]:
        a, d = matrix.cpu().numpy(), len(b)
        squares, filled = (a * a).sum(1), np.count_nonzero(a, 1)
        # x = x_0 + A^T u with a residual r = b - A x: one sketch moves u at one place and r by a row of A A^T
        gram, r, u = a @ a.T, b.cpu().numpy() - a @ x.cpu().numpy(), np.zeros(d)
        flops, made = 2.0 * filled.sum(), 0
        while np.linalg.norm(r) > target and made < self.most:
            rows = torch.randint(d, (d,)).tolist()
            for i in rows:
                step = r[i] / squares[i]
                u[i] += step
                r -= step * gram[i]
            made += d
            flops += 4.0 * filled[rows].sum() + 2.0 * filled.sum()
        return x + torch.from_numpy(a.T @ u).to(x), flops


class GaussianSketch(Solver):
    """Sketch and project: x <- x + (S A)^+ S (b - A x), S (block, d) of standard normal numbers.

    2 operations per entry of A and row of S, 2 d block (block + 2), and block^3 / 3, and a product with A for the
    residual.

    Args:
        block: rows of a sketch, at least 1; 1 is the code's Gaussian vector.
        most: sketches for one system, at least 1; 100,000 as in the code.

    Raises:
        UserError: a value out of range.
    """

    def __init__(self, block: int = 1, most: int = 100_000) -> None:
        if block < 1 or most < 1:
            raise UserError(f"model.solver.block={block} most={most}: both at least 1.")
        self.block, self.most = block, most

    def solve(self, matrix: Tensor, b: Tensor, x: Tensor, target: float) -> tuple[Tensor, float]:
        d, q = len(b), min(self.block, len(b))
        entries = float((matrix != 0).sum())
        made, r = 0, b - matrix @ x
        while float(vector_norm(r)) > target and made < self.most:
            sketch = torch.randn(q, d, dtype=b.dtype).to(b)
            x = x + torch.linalg.pinv(sketch @ matrix) @ (sketch @ r)
            r = b - matrix @ x
            made += 1
        return x, made * (2 * entries * (q + 1) + 2 * d * q * (q + 2) + q**3 / 3)

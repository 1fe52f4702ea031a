"""Problems min f(x) subject to c(x) = 0, written out, whose solutions are known."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from compendium.errors import UserError, did_you_mean


class Problem:
    """min f(x) subject to c(x) = 0.

    Attributes:
        start: x_0 (n,), float64.
        multipliers: how many constraints there are.
        best: the least value of f.
        first: of all multipliers at the start.
    """

    start: Tensor
    multipliers: int
    best: float
    first: float = 0.0

    def objective(self, x: Tensor) -> Tensor:
        """x (n,) -> f(x) ()."""
        raise NotImplementedError

    def constraints(self, x: Tensor) -> Tensor:
        """x (n,) -> c(x) (m,)."""
        raise NotImplementedError


Parts = tuple[Callable[..., Any], Callable[..., tuple[Any, ...]], tuple[float, ...], float]
PROBLEMS: dict[int, Parts] = {
    6: (lambda a, b: (1 - a) ** 2, lambda a, b: (10 * (b - a**2),), (-1.2, 1.0), 0.0),
    7: (
        lambda a, b: torch.log(1 + a**2) - b,
        lambda a, b: ((1 + a**2) ** 2 + b**2 - 4,),
        (2.0, 2.0),
        -math.sqrt(3),
    ),
    27: (
        lambda a, b, c: 0.01 * (a - 1) ** 2 + (b - a**2) ** 2,
        lambda a, b, c: (a + c**2 + 1,),
        (2.0, 2.0, 2.0),
        0.04,
    ),
    28: (
        lambda a, b, c: (a + b) ** 2 + (b + c) ** 2,
        lambda a, b, c: (a + 2 * b + 3 * c - 1,),
        (-4.0, 1.0, 1.0),
        0.0,
    ),
    39: (
        lambda a, b, c, d: -a,
        lambda a, b, c, d: (b - a**3 - c**2, a**2 - b - d**2),
        (2.0, 2.0, 2.0, 2.0),
        -1.0,
    ),
    40: (
        lambda a, b, c, d: -a * b * c * d,
        lambda a, b, c, d: (a**3 + b**2 - 1, a**2 * d - c, d**2 - b),
        (0.8, 0.8, 0.8, 0.8),
        -0.25,
    ),
    42: (
        lambda a, b, c, d: (a - 1) ** 2 + (b - 2) ** 2 + (c - 3) ** 2 + (d - 4) ** 2,
        lambda a, b, c, d: (a - 2, c**2 + d**2 - 2),
        (1.0, 1.0, 1.0, 1.0),
        28 - 10 * math.sqrt(2),
    ),
    48: (
        lambda a, b, c, d, e: (a - 1) ** 2 + (b - c) ** 2 + (d - e) ** 2,
        lambda a, b, c, d, e: (a + b + c + d + e - 5, c - 2 * (d + e) + 3),
        (3.0, 5.0, -3.0, 2.0, -2.0),
        0.0,
    ),
    51: (
        lambda a, b, c, d, e: (a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2,
        lambda a, b, c, d, e: (a + 3 * b - 4, c + d - 2 * e, b - e),
        (2.5, 0.5, 2.0, -1.0, 0.5),
        0.0,
    ),
    52: (
        lambda a, b, c, d, e: (4 * a - b) ** 2 + (b + c - 2) ** 2 + (d - 1) ** 2 + (e - 1) ** 2,
        lambda a, b, c, d, e: (a + 3 * b, c + d - 2 * e, b - e),
        (2.0, 2.0, 2.0, 2.0, 2.0),
        1859 / 349,
    ),
    77: (
        lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (c - 1) ** 2 + (d - 1) ** 4 + (e - 1) ** 6,
        lambda a, b, c, d, e: (
            a**2 * d + torch.sin(d - e) - 2 * math.sqrt(2),
            b + c**4 * d**2 - 8 - math.sqrt(2),
        ),
        (2.0, 2.0, 2.0, 2.0, 2.0),
        0.24150513,
    ),
    78: (
        lambda a, b, c, d, e: a * b * c * d * e,
        lambda a, b, c, d, e: (
            a**2 + b**2 + c**2 + d**2 + e**2 - 10,
            b * c - 5 * d * e,
            a**3 + b**3 + 1,
        ),
        (-2.0, 1.5, 2.0, -1.0, -1.0),
        -2.91970041,
    ),
    79: (
        lambda a, b, c, d, e: (a - 1) ** 2 + (a - b) ** 2 + (b - c) ** 2 + (c - d) ** 4 + (d - e) ** 4,
        lambda a, b, c, d, e: (
            a + b**2 + c**3 - 2 - 3 * math.sqrt(2),
            b - c**2 + d + 2 - 2 * math.sqrt(2),
            a * e - 2,
        ),
        (2.0, 2.0, 2.0, 2.0, 2.0),
        0.0787768209,
    ),
}


class HockSchittkowski(Problem):
    """A problem with equality constraints of Hock and Schittkowski 1981, with the start and least value given there.

    Written from memory; a test checks each value against scipy's SLSQP.

    Args:
        number: in that collection.

    Raises:
        UserError: a number that is not written out here.
    """

    def __init__(self, number: int = 6) -> None:
        if number not in PROBLEMS:
            there = ", ".join(map(str, PROBLEMS))
            raise UserError(
                f"model.problem.number={number}: that problem is not written out.",
                did_you_mean(str(number), map(str, PROBLEMS)) or f"there are: {there}",
            )
        self._objective, self._constraints, start, self.best = PROBLEMS[number]
        self.start = torch.tensor(start, dtype=torch.float64)
        self.multipliers = len(self._constraints(*self.start))

    def objective(self, x: Tensor) -> Tensor:
        return self._objective(*x)

    def constraints(self, x: Tensor) -> Tensor:
        return torch.stack(self._constraints(*x))


class EllipticControl(Problem):
    """Control of an elliptic equation on a square of `size` x `size` inner points, the state 0 on its edge:

        1/2 |w - target|^2 + weight / 2 |z|^2   subject to   (sum of a point's four neighbours - 4 w) / h^2 + z = 0

    with state w and control z, h = 2 / (size + 1), and target_ij = sin(4 + s (i - m)) + cos(3 + s (j - m)),
    s = 0.1 / sqrt(15), m = (size + 1) / 2. Hong et al. 2023, the code's `PDE/Eval.jl`, where size is 3. It is a
    quadratic with linear constraints; its least value is computed.

    Args:
        size: inner points of a side, at least 1.
        weight: of the control, above 0; 0.1 as in the code.

    Raises:
        UserError: a value out of range.
    """

    first = 1.0

    def __init__(self, size: int = 3, weight: float = 0.1) -> None:
        if size < 1 or not weight > 0:
            raise UserError(f"model.problem.size={size} weight={weight}: at least 1, and above 0.")
        place = torch.arange(1, size + 1, dtype=torch.float64) - (size + 1) / 2
        step = 0.1 / math.sqrt(15)
        self.target = (torch.sin(4 + step * place)[:, None] + torch.cos(3 + step * place)).flatten()
        side = torch.diag(torch.ones(size - 1), 1).double()
        side = side + side.T - 2 * torch.eye(size).double()
        eye = torch.eye(size).double()
        self.laplacian = (torch.kron(side, eye) + torch.kron(eye, side)) * ((size + 1) / 2) ** 2
        self.weight, self.multipliers = weight, size**2
        self.start = torch.ones(2 * size**2, dtype=torch.float64)
        # w solves (I + weight L L) w = target, because z = -L w
        w = torch.linalg.solve(torch.eye(size**2).double() + weight * self.laplacian @ self.laplacian, self.target)
        self.best = float(self.objective(torch.cat([w, -self.laplacian @ w])))

    def objective(self, x: Tensor) -> Tensor:
        w, z = x.chunk(2)
        return 0.5 * ((w - self.target.to(x)).square().sum() + self.weight * z.square().sum())

    def constraints(self, x: Tensor) -> Tensor:
        w, z = x.chunk(2)
        return self.laplacian.to(x) @ w + z

"""Functions with many optima and a known best value, measured at points of a box."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.quasirandom import SobolEngine

from compendium.errors import UserError
from compendium.seeding import derive, generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.spec import DataSpec


def multi_optima(x: Tensor) -> Tensor:
    """sin(x) cos(5 x) cos(22 x)."""
    x = x[..., 0]
    return x.sin() * (5 * x).cos() * (22 * x).cos()


def forrester(x: Tensor) -> Tensor:
    """-(6 x - 2)^2 sin(12 x - 4)."""
    x = x[..., 0]
    return -(6 * x - 2).square() * (12 * x - 4).sin()


def levi_13(x: Tensor) -> Tensor:
    """-[sin^2(3 pi a) + (a - 1)^2 (1 + sin^2(3 pi b)) + (b - 1)^2 (1 + sin^2(2 pi b))]."""
    a, b = x.unbind(-1)
    waves = [(turns * math.pi * of).sin().square() for turns, of in ((3, a), (3, b), (2, b))]
    return -(waves[0] + (a - 1).square() * (1 + waves[1]) + (b - 1).square() * (1 + waves[2]))


def branin(x: Tensor) -> Tensor:
    """-[(b - 5.1 a^2 / (4 pi^2) + 5 a / pi - 6)^2 + 10 (1 - 1 / (8 pi)) cos(a) + 10]."""
    a, b = x.unbind(-1)
    bowl = b - 5.1 / (4 * math.pi**2) * a.square() + 5 / math.pi * a - 6
    return -(bowl.square() + 10 * (1 - 1 / (8 * math.pi)) * a.cos() + 10)


def ackley(x: Tensor) -> Tensor:
    """20 exp(-0.2 sqrt(mean x_i^2)) + exp(mean cos(2 pi x_i)) - 20 - e."""
    far = torch.exp(-0.2 * x.square().mean(-1).sqrt())
    return 20 * far + (2 * math.pi * x).cos().mean(-1).exp() - 20 - math.e


def rastrigin(x: Tensor) -> Tensor:
    """-sum [10 + x_i^2 - 10 cos(2 pi x_i)]."""
    return -(10 + x.square() - 10 * (2 * math.pi * x).cos()).sum(-1)


@dataclass(frozen=True)
class Function:
    """A function that is to be made as large as can be.

    Attributes:
        of: points (..., D) -> values (...).
        box: lowest and highest value of each coordinate; of one for all, where there may be any number of them.
        optimum: its largest value in the box.
        any: whether there may be any number of coordinates.
    """

    of: Callable[[Tensor], Tensor]
    box: tuple[tuple[float, float], ...]
    optimum: float
    any: bool = False


FUNCTIONS = {
    "multi_optima": Function(multi_optima, ((-1.0, 2.0),), 0.9498949195432),
    "forrester": Function(forrester, ((0.0, 1.0),), 6.0207400557671),
    "levi_13": Function(levi_13, ((-10.0, 10.0),) * 2, 0.0),
    "branin": Function(branin, ((-5.0, 10.0), (0.0, 15.0)), -0.3978873577297),
    "ackley": Function(ackley, ((-5.0, 10.0),), 0.0, any=True),
    "rastrigin": Function(rastrigin, ((-5.12, 5.12),), 0.0, any=True),
}


class BlackBox(Source):
    """Points x that fill a box evenly, and a response whose mean f(x) has a known largest value:

        y = f(x) + noise e,      e from N(0, 1)

    - `multi_optima` on [-1, 2] and `levi_13`, Levy's function number 13, on [-10, 10]^2: two of Lahlou et al. 2022
      (`examples/SMO/test_functions.py` of their code).
    - `forrester` on [0, 1] (Forrester et al. 2008), `branin` on [-5, 10] x [0, 15] (Dixon and Szego 1978).
    - `ackley` on [-5, 10]^D, as there (Ackley 1987), and `rastrigin` on [-5.12, 5.12]^D (Rastrigin 1974).

    Those that the literature minimises have the other sign here. The points are a scrambled Sobol sequence. Columns:
    `x` (N, D), `y` (N,), `mean` (N,), f(x), and `regret` (N,), by how much f(x) lies below the largest value of f, in
    the box and not just at the points.

    Args:
        function: one of these.
        dimensions: D, where there may be any number; None: 2, or as many as the function has.
        noise: standard deviation of the response.
        train: points, as are the next two; powers of two are the most even.
        validation: likewise.
        test: likewise.
        seed: what the points and the noise are functions of.

    Raises:
        UserError: an unknown function, a number of dimensions that it does not have, a value out of range.
    """

    def __init__(
        self,
        function: str = "multi_optima",
        dimensions: int | None = None,
        noise: float = 0.0,
        train: int = 2048,
        validation: int = 256,
        test: int = 256,
        seed: int = 0,
    ) -> None:
        self.function = FUNCTIONS[known(function, FUNCTIONS, "data.function", "function")]
        self.name, self.noise, self.seed = function, noise, seed
        own = 2 if self.function.any else len(self.function.box)
        self.dimensions = own if dimensions is None else dimensions
        wrong = self.dimensions < 1 if self.function.any else self.dimensions != own
        if wrong or self.dimensions > SobolEngine.MAXDIM:
            there = f"1 to {SobolEngine.MAXDIM}" if self.function.any else str(own)
            raise UserError(f"data.dimensions={dimensions}: {function} has {there}.")
        if not noise >= 0:
            raise UserError(f"data.noise={noise}: at least 0.")
        self.sizes = split_sizes(train, validation, test, "point")

    def load(self) -> Records:
        total, dimensions = sum(self.sizes.values()), self.dimensions
        even = SobolEngine(dimensions, scramble=True, seed=derive(self.seed, "points") % 2**31)
        low, high = torch.tensor(self.function.box, dtype=torch.float64).T
        x = (low + (high - low) * even.draw(total, dtype=torch.float64)).float()
        mean = self.function.of(x.double())
        draws = torch.randn(total, generator=generator(self.seed, "noise"), dtype=torch.float64)
        columns = {
            "x": x,
            "y": (mean + self.noise * draws).float(),
            "mean": mean.float(),
            "regret": (self.function.optimum - mean).float(),
        }
        spec = DataSpec(self.name, "vector", (dimensions,), target="real")
        return Records(spec, columns, splits=consecutive(self.sizes))

"""Systems in operation that have not failed yet, from populations whose law is known in part."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.spec import DataSpec

FEATURES = ("system", "population", "demands", "theta", "epsilon")
ATOMS = 1000
"""Systems on each side of epsilon that a population consists of."""


class Systems(Source):
    """Periods of operation of systems that have passed all of theirs; will they pass the next one?

    A system fails on a demand with the probability X, independently of all others. X has the law of its population, of
    which it is known that P(X <= epsilon) = theta, as it is from verification and from the systems before. Each record
    is a period: x = (system, population, demands, theta, epsilon), y = whether all of its demands are passed. Training
    records are the `periods` so far, test records the next one, of systems that have passed exposure / epsilon demands
    in a row: what is seen of X is what survivors show. One more system of each population is there for validation.

    A population's law has `ATOMS` points on each side of epsilon, at (b epsilon)^(1 - u) epsilon^u below it with u ~
    Beta(a, 1), b in (0, 1), and at epsilon^u min(1, 100 epsilon)^(1 - u) above it; a and b differ between
    populations, of which some are crowded at epsilon and some far away from it. Systems are drawn from it in
    proportion to (1 - X)^k, which is what testing and leaving out those that failed comes to.

    Args:
        populations: how many; 40.
        systems: of each in the test; 500: a share is then known to 0.022 at most.
        exposure: demands passed so far, in units of 1 / epsilon.
        horizon: demands of the next period, in units of 1 / epsilon.
        periods: in which the demands so far came.
        seed: what everything is a function of.

    Raises:
        UserError: a number below 1, an exposure or horizon that is not above 0.
    """

    def __init__(
        self,
        populations: int = 40,
        systems: int = 500,
        exposure: float = 3.0,
        horizon: float = 0.3,
        periods: int = 4,
        seed: int = 0,
    ) -> None:
        for name, count in (("populations", populations), ("systems", systems), ("periods", periods)):
            if count < 1:
                raise UserError(f"data.{name}={count}: there is at least one.")
        for name, length in (("exposure", exposure), ("horizon", horizon)):
            if not length > 0:
                raise UserError(f"data.{name}={length}: it is above 0.")
        self.populations, self.systems, self.periods = populations, systems, periods
        self.exposure, self.horizon, self.seed = exposure, horizon, seed

    def load(self) -> Records:
        draw = generator(self.seed, "systems")
        theta = 0.5 + 0.45 * torch.rand(self.populations, generator=draw, dtype=torch.float64)
        epsilon = torch.exp(
            math.log(1e-4) + math.log(100) * torch.rand(len(theta), generator=draw, dtype=torch.float64)
        )
        failing, weight = self.laws(theta, epsilon, draw)
        each = (self.exposure / epsilon / self.periods).round().clamp(min=1)
        ahead = (self.horizon / epsilon).round().clamp(min=1)
        survival = weight.log() + self.periods * each[:, None] * torch.log1p(-failing)
        chosen = torch.multinomial(survival.softmax(1), self.systems + 1, True, generator=draw)
        passes = torch.exp(ahead[:, None] * torch.log1p(-failing.gather(1, chosen)))
        y = torch.rand(passes.shape, generator=draw, dtype=torch.float64) < passes

        population = torch.arange(self.populations).repeat_interleave(self.systems + 1)
        system = torch.arange(len(population))
        known = (theta[population], epsilon[population])
        past = torch.stack([system.double(), population.double(), each[population], *known], 1)
        following = torch.stack([system.double(), population.double(), ahead[population], *known], 1)
        x = torch.cat([past.repeat(self.periods, 1), following]).float()
        y = torch.cat([torch.ones(self.periods * len(system)), y.flatten().float()]).long()
        spec = DataSpec(
            name="systems in operation",
            kind="vector",
            shape=(len(FEATURES),),
            target="class",
            classes=("fails", "passes"),
            features=FEATURES,
        )
        rows = torch.arange(len(x))
        following_rows = rows[-len(system) :].view(self.populations, -1)
        splits = {
            "train": rows[: -len(system)],
            "validation": following_rows[:, -1],
            "test": following_rows[:, :-1].flatten(),
        }
        return Records(spec, {"x": x, "y": y}, splits=splits)

    @staticmethod
    def laws(theta: Tensor, epsilon: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """theta and epsilon (G,) -> points X (G, 2 ATOMS) and their weights, float64."""
        # A Beta(a, 1) variable is U^(1/a): a far below 1 crowds it at 0, far above 1 at 1.
        shape = 10 ** (2 * torch.rand(2, len(theta), 1, generator=draw, dtype=torch.float64) - 1)
        below, above = torch.rand(2, len(theta), ATOMS, generator=draw, dtype=torch.float64) ** (1 / shape)
        floor = torch.exp(math.log(1e-3) * torch.rand(len(theta), 1, generator=draw, dtype=torch.float64))
        edge = epsilon[:, None]
        ceiling = (100 * edge).clamp(max=1) / edge
        points = torch.cat([edge * floor ** (1 - below), edge * (1 + 1e-9) * ceiling ** (1 - above)], 1)
        weight = torch.stack([theta, 1 - theta], 1).repeat_interleave(ATOMS, 1) / ATOMS
        return points.clamp(max=1 - 1e-9), weight

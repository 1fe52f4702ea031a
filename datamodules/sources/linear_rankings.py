"""Answers with features whose worth is linear, and rankings of them."""

from __future__ import annotations

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.checks import consecutive, known, split_sizes
from datamodules.spec import DataSpec

WORLDS = ("covered", "recorded", "uncovered")


class LinearRankings(Source):
    """Many problems at once, each a bandit with r(a) = <theta, phi(a)> and `rankings` rankings of K answers, drawn from
    Plackett and Luce's model: the best of what is left comes next with probability exp(r) / sum exp(r).

    - `covered`: each ranking is of K new answers with phi ~ N(0, I), and so are the answers to choose from.
    - `recorded`: phi ~ N(0, I / D) of all answers; a ranking is of K different ones, drawn one after the other from
      mu(a) ~ exp(N(0, 1) * sharpness + tilt * r(a)).
    - `uncovered`: the construction for which the greedy choice is bad at any number of rankings (Zhu et al. 2023,
      Theorem 3.9): phi = (1, 1, 0), (1, 0, 0), (0, 0, 0), (0, 1, 0) and theta = (-1, 0.1, 0.9); all rankings but one
      are of the first two answers, and one is of the second and third. The last answer is the best, of worth 0.1.
      `answers`, `dimensions` and `ranked` are of no account.

    theta is uniform on the sphere of radius `norm` in the plane where its components add up to 0.

    Columns: `ranked` float32 (N, K, D), the best first, and `problem` int64 (N,), of the training rankings; `items`
    float32 (M, A, D) and `weight` float64 (M, D) of the problems. Splits name rankings in training and problems
    elsewhere; rankings of all problems are in training.

    Args:
        world: one of these.
        dimensions: D, at least 2.
        answers: A, to choose from, at least 2.
        ranked: K, at least 2.
        rankings: in each problem, at least 2.
        norm: of theta, above 0.
        sharpness: of mu, at least 0.
        tilt: of mu towards good answers.
        validation: problems.
        test: problems.
        seed: what all is a function of.

    Raises:
        UserError: a value out of range.
    """

    def __init__(
        self,
        world: str = "covered",
        dimensions: int = 4,
        answers: int = 10,
        ranked: int = 2,
        rankings: int = 100,
        norm: float = 1.0,
        sharpness: float = 1.0,
        tilt: float = 0.0,
        validation: int = 100,
        test: int = 200,
        seed: int = 0,
    ) -> None:
        self.world = known(world, WORLDS, "data.world", "world")
        least = ranked if world == "recorded" else 2
        if dimensions < 2 or answers < least or ranked < 2 or rankings < 2:
            raise UserError(
                f"data.dimensions={dimensions} data.answers={answers} data.ranked={ranked} data.rankings={rankings}: "
                "at least 2 each, and as many recorded answers as are ranked."
            )
        if not norm > 0 or not sharpness >= 0:
            raise UserError(f"data.norm={norm} data.sharpness={sharpness}: above 0, and at least 0.")
        self.problems = validation + test
        self.sizes = split_sizes(self.problems * rankings, validation, test, "problem")
        self.dimensions, self.answers, self.ranked, self.rankings = dimensions, answers, ranked, rankings
        self.norm, self.sharpness, self.tilt, self.seed = norm, sharpness, tilt, seed

    def load(self) -> Records:
        draw = generator(self.seed, "linear rankings", self.world)
        if self.world == "uncovered":
            weight, items, compared = self.uncovered()
        else:
            weight = torch.randn(self.problems, self.dimensions, generator=draw, dtype=torch.float64)
            weight = weight - weight.mean(1, keepdim=True)
            weight = self.norm * weight / weight.norm(dim=1, keepdim=True)
            items, compared = self.drawn(weight, draw)
        worth = torch.einsum("mnkd,md->mnk", compared, weight)
        # The order of worth plus noise of Gumbel's law is Plackett and Luce's.
        noise = -torch.rand(worth.shape, generator=draw, dtype=torch.float64).log().neg().log()
        order = (worth + noise).argsort(2, descending=True)
        ranked = compared.gather(2, order[..., None].expand(compared.shape)).flatten(0, 1).float()
        problem = torch.arange(self.problems).repeat_interleave(self.rankings)
        columns = {"ranked": ranked, "problem": problem, "items": items.float(), "weight": weight}
        problems = consecutive({name: self.sizes[name] for name in ("validation", "test")})
        spec = DataSpec("linear rankings", "vector", tuple(ranked.shape[1:]), target="preference")
        return Records(spec, columns, splits={"train": torch.arange(len(ranked)), **problems})

    def drawn(self, weight: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor]:
        """theta (M, D) -> answers to choose from (M, A, D), and those that are compared (M, rankings, K, D)."""
        shape = (self.problems, self.answers, self.dimensions)
        items = torch.randn(shape, generator=draw, dtype=torch.float64)
        if self.world == "covered":
            new = (self.problems, self.rankings, self.ranked, self.dimensions)
            return items, torch.randn(new, generator=draw, dtype=torch.float64)
        items = items / self.dimensions**0.5
        logits = self.sharpness * torch.randn(shape[:2], generator=draw, dtype=torch.float64)
        law = (logits + self.tilt * torch.einsum("mad,md->ma", items, weight)).softmax(1)
        rows = law.repeat_interleave(self.rankings, 0).multinomial(self.ranked, generator=draw)
        rows = rows.view(self.problems, -1, 1).expand(-1, -1, self.dimensions)
        return items, items.gather(1, rows).view(self.problems, self.rankings, self.ranked, -1)

    def uncovered(self) -> tuple[Tensor, Tensor, Tensor]:
        """theta, answers and comparisons of the construction, the same in every problem."""
        items = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 1, 0]], dtype=torch.float64)
        pairs = torch.tensor([[0, 1]] * (self.rankings - 1) + [[1, 2]])
        weight = torch.tensor([-1, 0.1, 0.9], dtype=torch.float64)
        return tuple(value.expand(self.problems, *value.shape) for value in (weight, items, items[pairs]))  # type: ignore[return-value]

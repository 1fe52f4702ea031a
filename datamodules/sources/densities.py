"""Records drawn from densities that are known exactly."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source, Truth
from datamodules.sources.checks import consecutive, split_sizes
from datamodules.spec import DataSpec

SQRT2 = math.sqrt(2)


class GaussianMixture:
    """Isotropic Gaussians: p(x) = sum_k weight_k N(x; mean_k, std_k^2 I). A `Truth`.

    Parameters are kept in float64; each method answers in the type and on the device of `x`.

    Args:
        means: (K, D).
        std: one for all, or one per component (K,).
        weights: (K,), normalized here; None: equal.
        labels: int64 (K,), the class that each component belongs to; None: no classes.
    """

    def __init__(
        self, means: Tensor, std: float | Tensor, weights: Tensor | None = None, labels: Tensor | None = None
    ) -> None:
        self.labels = labels
        self.means = means.double()
        count = len(means)
        self.std = torch.as_tensor(std, dtype=torch.float64).expand(count).clone()
        weights = torch.ones(count) if weights is None else weights
        self.weights = weights.double() / weights.double().sum()

    def _joint(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x (B, D) -> log of weight and density per component (B, K), offsets to the means (B, K, D), variances."""
        means, std, weights = (part.to(x) for part in (self.means, self.std, self.weights))
        # Differences, not the expanded square: in float32 that one cancels far away from the origin.
        offset = means - x[:, None]
        normalizer = weights.log() - means.shape[1] * (std.log() + 0.5 * math.log(2 * math.pi))
        return normalizer - offset.square().sum(-1) / (2 * std**2), offset, std**2

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density (B,)."""
        return self._joint(x)[0].logsumexp(1)

    def score(self, x: Tensor) -> Tensor:
        """x (B, D) -> gradient of the log density (B, D): offsets to the means over variance, by responsibility."""
        joint, offset, variance = self._joint(x)
        return torch.einsum("bk,bkd->bd", joint.softmax(1) / variance, offset)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, D), float32."""
        return self.draw(n, generator)[0]

    def draw(self, n: int, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
        """n exact samples (n, D), float32, and the components that they come from, int64 (n,)."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return (self.means[chosen] + self.std[chosen, None] * noise).float(), chosen


class CheckerboardLaw:
    """Uniform over the 8 cells of a 4 x 4 board on [-4, 4]^2 for which floor(x / 2) + floor(y / 2) is even. A `Truth`.

    The score is zero inside the cells. On their edges it does not exist, and outside, where the density is zero,
    there is none: zero is returned there too. Evaluations of a score should not use this law.
    """

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, 2) -> -log 32 inside the cells, -infinity outside (B,)."""
        inside = (x.div(2).floor().sum(1).remainder(2) == 0) & (x >= -4).all(1) & (x < 4).all(1)
        return torch.where(inside, -math.log(32), -math.inf).to(x)

    def score(self, x: Tensor) -> Tensor:
        """x (B, 2) -> zero (B, 2)."""
        return torch.zeros_like(x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, 2), float32."""
        column = torch.randint(4, (n,), generator=generator)
        row = 2 * torch.randint(2, (n,), generator=generator) + column % 2
        return 2 * (torch.stack([column, row], 1) - 2 + torch.rand(n, 2, generator=generator))


class Drawn(Source):
    """Parent of the sources that draw their records from a known law, each split independently.

    Args:
        train: records to train on.
        validation: records to validate on.
        test: records to test on.
        seed: what the records are a function of; not the run's seed.

    Raises:
        UserError: a size below 1.
    """

    def __init__(self, train: int = 10_000, validation: int = 2_000, test: int = 5_000, seed: int = 0) -> None:
        self.sizes = split_sizes(train, validation, test)
        self.seed = seed

    @abstractmethod
    def law(self) -> Truth:
        """The law that the records follow."""

    def load(self) -> Records:
        name, law = type(self).__name__.lower(), self.law()
        draws = {split: generator(self.seed, name, split) for split in self.sizes}
        splits = consecutive(self.sizes)
        labels = getattr(law, "labels", None)
        if isinstance(law, GaussianMixture) and labels is not None:
            parts = [law.draw(self.sizes[split], draw) for split, draw in draws.items()]
            x, component = (torch.cat(part) for part in zip(*parts, strict=True))
            classes = tuple(str(label) for label in range(int(labels.max()) + 1))
            spec = DataSpec(name=name, kind="vector", shape=(x.shape[1],), target="class", classes=classes)
            return Records(spec, {"x": x, "y": labels[component]}, splits=splits, truth=law)
        x = torch.cat([law.sample(self.sizes[split], draw) for split, draw in draws.items()])
        bounds = (-4.0, 4.0) if isinstance(law, CheckerboardLaw) else None
        spec = DataSpec(name=name, kind="vector", shape=(x.shape[1],), bounds=bounds)
        return Records(spec, {"x": x}, splits=splits, truth=law)


class Ring(Drawn):
    """Gaussians in equal distances on a circle. Defaults: the `8gaussians` of FFJORD (Grathwohl et al. 2019).

    Args:
        modes: number of Gaussians.
        radius: of the circle.
        std: of each Gaussian.
        classes: Gaussian k belongs to class k modulo `classes`; 0: records without a class.
        parts: the arguments of `Drawn`.
    """

    def __init__(
        self, modes: int = 8, radius: float = 4 / SQRT2, std: float = 0.5 / SQRT2, classes: int = 0, **parts: int
    ) -> None:
        super().__init__(**parts)
        self.modes, self.radius, self.std, self.classes = modes, radius, std, classes

    def law(self) -> GaussianMixture:
        angle = 2 * math.pi * torch.arange(self.modes, dtype=torch.float64) / self.modes
        labels = torch.arange(self.modes) % self.classes if self.classes else None
        return GaussianMixture(self.radius * torch.stack([angle.cos(), angle.sin()], 1), self.std, labels=labels)


class Grid(Drawn):
    """Gaussians on a square grid around the origin. Defaults: the 25 of VEEGAN (Srivastava et al. 2017).

    Args:
        side: Gaussians per side.
        spacing: distance of neighbours.
        std: of each Gaussian.
        parts: the arguments of `Drawn`.
    """

    def __init__(self, side: int = 5, spacing: float = 2.0, std: float = 0.05, **parts: int) -> None:
        super().__init__(**parts)
        self.side, self.spacing, self.std = side, spacing, std

    def law(self) -> GaussianMixture:
        ticks = self.spacing * (torch.arange(self.side, dtype=torch.float64) - (self.side - 1) / 2)
        return GaussianMixture(torch.cartesian_prod(ticks, ticks), self.std)


class Checkerboard(Drawn):
    """Uniform over the black cells of a board on [-4, 4]^2, as in FFJORD (Grathwohl et al. 2019)."""

    def law(self) -> CheckerboardLaw:
        return CheckerboardLaw()


class Moons(Drawn):
    """Two interleaved half circles with Gaussian noise, placed as in FFJORD (Grathwohl et al. 2019).

    The density is exact because the arcs are discretized: each is `points` Gaussians in equal distances. While they
    are no further apart than `std`, log_prob differs from that of a continuous arc by less than 1e-6 along the arc;
    around its ends by up to 0.06, 0.001 in the mean.

    Args:
        std: of the noise; 0.2 is scikit-learn's `noise=0.1` after FFJORD's scaling by 2.
        points: Gaussians per arc.
        parts: the arguments of `Drawn`.
    """

    def __init__(self, std: float = 0.2, points: int = 64, **parts: int) -> None:
        super().__init__(**parts)
        self.std, self.points = std, points

    def law(self) -> GaussianMixture:
        angle = math.pi * (torch.arange(self.points, dtype=torch.float64) + 0.5) / self.points
        upper = torch.stack([angle.cos(), angle.sin()], 1)
        lower = torch.stack([1 - angle.cos(), 0.5 - angle.sin()], 1)
        return GaussianMixture(2 * torch.cat([upper, lower]) - torch.tensor([1.0, 0.2]), self.std)


class Spiral(Drawn):
    """Arms that wind around the origin, with Gaussian noise: `2spirals` of FFJORD (Grathwohl et al. 2019).

    The density is exact because the arms are discretized: each is `points` Gaussians, placed at angles
    turns * 2 pi * sqrt(u) for u in equal distances, with the caveat of `Moons`.
    Deviation: FFJORD's second, uniform noise is left out.

    Args:
        arms: number of arms.
        turns: revolutions of each arm.
        std: of the noise.
        points: Gaussians per arm; 160 are 0.09 apart at the defaults, less than `std`.
        parts: the arguments of `Drawn`.
    """

    def __init__(self, arms: int = 2, turns: float = 1.5, std: float = 0.1, points: int = 160, **parts: int) -> None:
        super().__init__(**parts)
        self.arms, self.turns, self.std, self.points = arms, turns, std, points

    def law(self) -> GaussianMixture:
        along = ((torch.arange(self.points, dtype=torch.float64) + 0.5) / self.points).sqrt()
        angle = 2 * math.pi * (self.turns * along + torch.arange(self.arms)[:, None] / self.arms)
        radius = 2 * math.pi * self.turns * along / 3
        return GaussianMixture(
            (radius[..., None] * torch.stack([angle.cos(), angle.sin()], -1)).flatten(0, 1), self.std
        )


class Mixture(Drawn):
    """Gaussians at random places in any number of dimensions; the law too is a function of the seed.

    Means are drawn from N(0, spread^2 I), weights uniformly from the simplex.

    Args:
        dimensions: of a record.
        components: number of Gaussians.
        spread: standard deviation of the means; 3 and `std` 1 keep a few pairs overlapping at 2 dimensions and none
            at 16 (our choice).
        std: of each Gaussian.
        parts: the arguments of `Drawn`.
    """

    def __init__(
        self, dimensions: int = 16, components: int = 8, spread: float = 3.0, std: float = 1.0, **parts: int
    ) -> None:
        super().__init__(**parts)
        self.dimensions, self.components, self.spread, self.std = dimensions, components, spread, std

    def law(self) -> GaussianMixture:
        draw = generator(self.seed, "mixture", "law")
        means = self.spread * torch.randn(self.components, self.dimensions, generator=draw, dtype=torch.float64)
        weights = -torch.rand(self.components, generator=draw, dtype=torch.float64).log()
        return GaussianMixture(means, self.std, weights)


class Gaussians(Drawn):
    """Gaussians by hand, on request in classes.

    Args:
        means: a list of points.
        std: of each Gaussian: one number, or a list with one per Gaussian.
        weights: a list, normalized here; None: equal.
        labels: a list with the class of each Gaussian, whole numbers from 0; None: records without a class.
        parts: the arguments of `Drawn`.

    Raises:
        UserError: lists of different lengths.
    """

    def __init__(
        self,
        means: Sequence[Sequence[float]],
        std: float | Sequence[float] = 1.0,
        weights: Sequence[float] | None = None,
        labels: Sequence[int] | None = None,
        **parts: int,
    ) -> None:
        super().__init__(**parts)
        for name, given in (("std", std), ("weights", weights), ("labels", labels)):
            if given is not None and not isinstance(given, float | int) and len(given) != len(means):
                raise UserError(f"data.{name} has {len(given)} numbers for {len(means)} means.")
        self.means, self.std, self.weights, self.labels = means, std, weights, labels

    def law(self) -> GaussianMixture:
        def tensor(values: Sequence[float] | None, kind: torch.dtype = torch.float64) -> Tensor | None:
            return None if values is None else torch.tensor(list(values), dtype=kind)

        means = torch.tensor([list(point) for point in self.means], dtype=torch.float64)
        std = torch.as_tensor(self.std if isinstance(self.std, float | int) else list(self.std), dtype=torch.float64)
        return GaussianMixture(means, std, tensor(self.weights), tensor(self.labels, torch.long))

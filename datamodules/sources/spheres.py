"""Records on the sphere and the torus: laws whose density is known, and places on Earth."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.source import Records, Source
from datamodules.sources.densities import Drawn
from datamodules.spec import DataSpec

WRAPS = 4
"""Turns on either side: with a standard deviation below 2 leaves less than 1e-12 out."""


class VonMisesFisherMixture:
    """p(x) = sum_k weight_k c_k e^(c_k (mean_k . x - 1)) / (2 pi (1 - e^(-2 c_k))) on the unit sphere, by area.

    Args:
        means: unit vectors (K, 3).
        concentration: c, one for all or (K,).
        weights: (K,), normalized here; None: equal.
    """

    def __init__(self, means: Tensor, concentration: float | Tensor, weights: Tensor | None = None) -> None:
        self.means = means.double()
        self.concentration = torch.as_tensor(concentration, dtype=torch.float64).expand(len(means)).clone()
        weights = torch.ones(len(means)) if weights is None else weights
        self.weights = weights.double() / weights.double().sum()

    def joint(self, x: Tensor) -> Tensor:
        """x (B, 3) -> log of weight and density per component (B, K), float64."""
        c = self.concentration
        log_volume = (2 * math.pi * -torch.expm1(-2 * c) / c).log()
        return self.weights.log() - log_volume + c * (x.double() @ self.means.T - 1)

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, 3) -> natural log of the density (B,)."""
        return self.joint(x).logsumexp(1).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """x (B, 3) -> gradient of the log density along the sphere (B, 3)."""
        share = self.joint(x).softmax(1) * self.concentration
        pull = (share @ self.means).to(x.dtype)
        return pull - (pull * x).sum(1, keepdim=True) * x

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, 3), float32: cos of the angle to the mean by its inverse distribution function."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        mean, c = self.means[chosen], self.concentration[chosen]
        u = torch.rand(n, generator=generator, dtype=torch.float64)
        height = 1 + torch.log(u + (1 - u) * (-2 * c).exp()) / c
        across = torch.randn(n, 3, generator=generator, dtype=torch.float64)
        across = across - (across * mean).sum(1, keepdim=True) * mean
        across = across / across.norm(dim=1, keepdim=True)
        x = height[:, None] * mean + (1 - height.square()).clamp_min(0).sqrt()[:, None] * across
        return torch.nn.functional.normalize(x).float()


class WrappedMixture:
    """Gaussians of D angles, wrapped: records (cos a_1, sin a_1, ..., cos a_D, sin a_D), density by angle.

    Args:
        means: angles (K, D).
        std: one for all or (K,), below 2.
        weights: (K,), normalized here; None: equal.
    """

    def __init__(self, means: Tensor, std: float | Tensor, weights: Tensor | None = None) -> None:
        self.means = means.double()
        self.std = torch.as_tensor(std, dtype=torch.float64).expand(len(means)).clone()
        weights = torch.ones(len(means)) if weights is None else weights
        self.weights = weights.double() / weights.double().sum()

    def parts(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, 2 D) -> log of weight and density per component (B, K), and slopes by angle (B, K, D), float64."""
        pairs = x.double().unflatten(1, (-1, 2))
        angle = torch.atan2(pairs[..., 1], pairs[..., 0])
        turns = 2 * math.pi * torch.arange(-WRAPS, WRAPS + 1, dtype=torch.float64)
        offset = (angle[:, None] - self.means + math.pi).remainder(2 * math.pi) - math.pi
        offset = offset[..., None] + turns  # (B, K, D, turns)
        variance = self.std[:, None, None].square()
        log = -0.5 * offset.square() / variance - 0.5 * (2 * math.pi * variance).log()
        slope = -(log.softmax(-1) * offset / variance).sum(-1)
        return self.weights.log() + log.logsumexp(-1).sum(-1), slope

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, 2 D) -> natural log of the density (B,)."""
        return self.parts(x)[0].logsumexp(1).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """x (B, 2 D) -> gradient of the log density along the torus (B, 2 D)."""
        joint, slope = self.parts(x)
        slope = torch.einsum("bk,bkd->bd", joint.softmax(1), slope).to(x.dtype)
        pairs = x.unflatten(1, (-1, 2))
        return (slope[..., None] * torch.stack([-pairs[..., 1], pairs[..., 0]], -1)).flatten(1)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n exact samples (n, 2 D), float32."""
        chosen = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        angle = self.means[chosen] + self.std[chosen, None] * noise
        return torch.stack([angle.cos(), angle.sin()], -1).flatten(1).float()


class Sphere(Drawn):
    """Von Mises-Fisher laws around random places of the sphere, with random weights; all a function of the seed.

    Args:
        components: number of places.
        concentration: of each; the angle to the mean has a standard deviation of about 1 / sqrt(concentration) per
            direction.
        parts: the arguments of `Drawn`.

    Raises:
        UserError: a concentration that is not above 0.
    """

    def __init__(self, components: int = 8, concentration: float = 30.0, **parts: int) -> None:
        super().__init__(**parts)
        if concentration <= 0:
            raise UserError(f"data.concentration={concentration}: above 0.")
        self.components, self.concentration = components, concentration

    def law(self) -> VonMisesFisherMixture:
        draw = generator(self.seed, "sphere", "law")
        means = torch.randn(self.components, 3, generator=draw, dtype=torch.float64)
        weights = -torch.rand(self.components, generator=draw, dtype=torch.float64).log()
        return VonMisesFisherMixture(means / means.norm(dim=1, keepdim=True), self.concentration, weights)


class Torus(Drawn):
    """Wrapped Gaussians around random places of a torus, with random weights; all a function of the seed.

    Args:
        angles: of a record; 2 is the torus.
        components: number of places.
        std: of each angle.
        parts: the arguments of `Drawn`.

    Raises:
        UserError: a standard deviation outside (0, 2).
    """

    def __init__(self, angles: int = 2, components: int = 8, std: float = 0.25, **parts: int) -> None:
        super().__init__(**parts)
        if not 0 < std < 2:
            raise UserError(f"data.std={std}: in (0, 2).")
        self.angles, self.components, self.std = angles, components, std

    def law(self) -> WrappedMixture:
        draw = generator(self.seed, "torus", "law")
        means = 2 * math.pi * torch.rand(self.components, self.angles, generator=draw, dtype=torch.float64)
        weights = -torch.rand(self.components, generator=draw, dtype=torch.float64).log()
        return WrappedMixture(means, self.std, weights)


class Earth(Source):
    """Places on Earth from a file with a latitude and a longitude in degrees per line, as unit vectors.

    Lines whose first two fields are no numbers, such as headings, are skipped: the files of Mathieu and Nickel 2020
    (volcanoes, earthquakes, floods, fires) begin with some.

    Args:
        path: of the file.
        separator: between fields.

    Raises:
        UserError: no such file, no place in it, or one that is not on Earth.
    """

    def __init__(self, path: str, separator: str = ",") -> None:
        self.path, self.separator = path, separator

    def load(self) -> Records:
        if not Path(self.path).is_file():
            raise UserError(f"data.path={self.path}: there is no such file.")
        places = []
        for line in Path(self.path).read_text(encoding="utf-8").splitlines():
            try:
                latitude, longitude = (float(part) for part in line.split(self.separator)[:2])
            except ValueError:
                continue
            places.append((latitude, longitude))
        if not places:
            raise UserError(f"data.path={self.path}: no line begins with a latitude and a longitude.")
        degrees = torch.tensor(places, dtype=torch.float64)
        if not (degrees.abs() <= torch.tensor([90, 360])).all():
            raise UserError(f"data.path={self.path}: latitudes go from -90 to 90, longitudes from -360 to 360.")
        north, east = degrees.deg2rad().unbind(1)
        x = torch.stack([north.cos() * east.cos(), north.cos() * east.sin(), north.sin()], 1)
        spec = DataSpec(name=Path(self.path).stem, kind="vector", shape=(3,), features=("x", "y", "z"))
        return Records(spec, {"x": x.float()})

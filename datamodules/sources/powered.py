"""Records of an annealed or guided law: what guidance and tempering mean to sample from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from datamodules.sources.densities import Drawn, GaussianMixture

MOST_CELLS = 1 << 24
"""torch.multinomial chooses from at most so many."""


class GridLaw:
    """A density in one or two dimensions that is known up to a factor, normalised on a grid. A `Truth`.

    Draws take a cell by its probability and a uniform place in it; the error is that of the midpoint rule.

    Args:
        log_density: x (B, D) float64 -> natural log of the density, up to a constant (B,).
        score: x (B, D) -> its gradient (B, D).
        dimensions: 1 or 2.
        reach: the grid covers [-reach, reach]^D, outside of which there should be nothing to speak of.
        cells: per dimension.

    Raises:
        UserError: other dimensions.
    """

    def __init__(self, log_density: Any, score: Any, dimensions: int, reach: float, cells: int) -> None:
        if dimensions not in (1, 2) or cells**dimensions > MOST_CELLS:
            raise UserError(
                f"a grid of {cells}^{dimensions} cells is too large.", "take a law of one or two dimensions"
            )
        self.log_density, self.slope = log_density, score
        self.width = 2 * reach / cells
        ticks = self.width * (torch.arange(cells, dtype=torch.float64) + 0.5) - reach
        self.places = torch.cartesian_prod(*[ticks] * dimensions).view(-1, dimensions)
        log_mass = torch.cat([log_density(part) for part in self.places.split(1 << 16)])
        self.log_normalizer = log_mass.logsumexp(0) + dimensions * torch.tensor(self.width).log()
        self.mass = log_mass.softmax(0)

    def log_prob(self, x: Tensor) -> Tensor:
        """x (B, D) -> natural log of the density (B,)."""
        return (self.log_density(x.double()) - self.log_normalizer).to(x.dtype)

    def score(self, x: Tensor) -> Tensor:
        """x (B, D) -> gradient of the log density (B, D)."""
        return self.slope(x)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n draws (n, D), float32."""
        chosen = torch.multinomial(self.mass, n, replacement=True, generator=generator)
        jitter = torch.rand(n, self.places.shape[1], generator=generator, dtype=torch.float64) - 0.5
        return (self.places[chosen] + self.width * jitter).float()


class Powered(Drawn):
    """Draws from a law put together from a mixture's density or those of its classes, up to a constant factor:

    - p(x)^power, the annealed law, colder where power > 1;
    - p(x | label)^power p(x)^(1 - power), what classifier-free guidance of that scale is often said to sample;
    - p(x | label) p(x | other), the product of two experts.

    Args:
        source: config of a source of one- or two-dimensional Gaussians.
        power: of the density.
        label: class of the guided law; None for the annealed one. Default 1, that of the example in conf/data.
        other: the second class of a product, which has no power.
        reach: see `GridLaw`.
        cells: see `GridLaw`.
        parts: the arguments of `Drawn`.

    Raises:
        UserError: a source whose law is no mixture, or that has no such class.
    """

    def __init__(
        self,
        source: Mapping[str, Any],
        power: float = 2.0,
        label: int | None = 1,
        other: int | None = None,
        reach: float = 8.0,
        cells: int = 1024,
        **parts: int,
    ) -> None:
        super().__init__(**parts)
        self.source, self.power, self.label, self.other = source, power, label, other
        self.reach, self.cells = reach, cells

    def law(self) -> GridLaw:
        whole = instantiate(self.source, where="data.source").law()
        if not isinstance(whole, GaussianMixture):
            raise UserError("data.source has no law that is a mixture of Gaussians.", "choose gaussians, ring, ...")
        factors = [(whole, self.power)]
        if self.label is not None:
            factors = [(class_of(whole, self.label), self.power), (whole, 1 - self.power)]
        if self.label is not None and self.other is not None:
            factors = [(class_of(whole, self.label), 1.0), (class_of(whole, self.other), 1.0)]
        return GridLaw(
            lambda x: sum(power * law.log_prob(x) for law, power in factors),
            lambda x: sum(power * law.score(x) for law, power in factors),
            whole.means.shape[1],
            self.reach,
            self.cells,
        )


def class_of(law: GaussianMixture, label: int) -> GaussianMixture:
    """The law of one class of a mixture.

    Raises:
        UserError: there is no such class.
    """
    chosen = torch.zeros(0) if law.labels is None else law.labels == label
    if not chosen.any():
        raise UserError(f"data.label={label}: the source's law has no such class.", "give data.source.labels")
    return GaussianMixture(law.means[chosen], law.std[chosen], law.weights[chosen])

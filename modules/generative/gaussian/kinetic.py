"""Kinetic optimal paths: the Gaussian path along which the flow of given data moves least."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from compendium.config import instantiate
from compendium.errors import UserError
from compendium.seeding import generator
from modules.generative.gaussian.mixtures import MixtureDenoiser
from modules.generative.gaussian.paths import Path

PLACES = 64
"""Noise ratios at which separation is measured, evenly in their logarithm from 1e-3 to 1e3 times the data's size."""

FLATTEST = 1e-4
"""Least w: where no record can be told from another, motion costs nothing, and the angle would leap."""


class KineticOptimal(Path):
    """The path of least kinetic energy, mean of |v(x_t, t)|^2 per dimension over time, for data of a known separation.

    With data of the mean square s^2 per dimension, polar coordinates (alpha s, sigma) = rho (cos phi, sin phi) and the
    separation lambda(phi) = E |E[x_0 | x_t]|^2 / E |x_0|^2, the energy of any Gaussian path is

        KE = int rho'^2 + rho^2 w(phi) phi'^2 dt,     w = 1 - (1 - lambda) / sin^2 phi, from 0 to 1

    In Theta(phi) = int_0^phi sqrt(w) this is the length of a curve in the plane with polar coordinates (rho, Theta), so
    that the optimum is the straight line from (s, 0) to (cos Theta_1, sin Theta_1), Theta_1 = Theta(pi / 2), at
    constant speed; its energy is 1 + s^2 - 2 s cos Theta_1. If lambda = 1, as for few records in many dimensions, that
    is the line alpha = 1 - t, sigma = t of conditional optimal transport; if the data are Gaussian with s = 1, it is 0.

    Shaul et al. 2023, "On Kinetic Optimal Probability Paths for Generative Models". The energy is rederived here and
    tested by its definition; I have not seen the paper's text.

    Deviations: (1) the paper states a differential equation in one dimension and minimises over a family of paths,
    instead of the closed form. (2) Separation is measured on `records` training records, as seen by their exact
    denoiser, at `draws` of them.

    Args:
        source: config of the source of the records, `"model.path.source=${data}"`; None for separation 1. A
            presentation that rescales records is not known here.
        records: first training records that stand for the data.
        draws: noisy records per noise ratio.
        end: sampling starts here, see `Linear`.

    Raises:
        UserError: fewer than 2 records, or none but zeros.
    """

    prior_std = 1.0
    papers = ("shaul2023kinetic",)

    def __init__(
        self, source: Mapping[str, Any] | None = None, records: int = 1000, draws: int = 256, end: float = 0.999
    ) -> None:
        if records < 2:
            raise UserError(f"path.records={records}: at least 2, of which one is told from another.")
        self.end = end
        ratios = torch.logspace(-3, 3, PLACES, dtype=torch.float64)
        self.size, separation = 1.0, torch.ones_like(ratios)
        if source is not None:
            data = instantiate(source, where="path.source").load()
            rows = data.splits["train"][:records] if data.splits else slice(records)
            x = data.columns["x"][rows].flatten(1).double()
            self.size = float(x.square().mean().sqrt())
            if not self.size:
                raise UserError("path.source: all records are zero.")
            separation = separation_of(x, self.size * ratios, draws)
        self.tabulate(ratios.atan(), separation)

    def tabulate(self, phi: Tensor, separation: Tensor) -> None:
        """Theta at the angles phi (K,) within (0, pi / 2), from the separations lambda (K,) there."""
        w = (1 - (1 - separation) / phi.sin().square()).clamp(FLATTEST, 1)
        self.phi = torch.cat([phi.new_zeros(1), phi, phi.new_full((1,), math.pi / 2)])
        root = torch.cat([w[:1], w, w[-1:]]).sqrt()
        self.theta = torch.cat([phi.new_zeros(1), (self.phi.diff() * (root[1:] + root[:-1]) / 2).cumsum(0)])

    @property
    def energy(self) -> float:
        """Kinetic energy per dimension from t = 0 to 1, that of the optimum."""
        return 1 + self.size**2 - 2 * self.size * math.cos(float(self.theta[-1]))

    def place(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """rho and phi at times t, and their rates, float64."""
        t, last = t.double(), float(self.theta[-1])
        ahead, across = math.cos(last) - self.size, math.sin(last)
        x, y = self.size + t * ahead, t * across
        rho, theta = (x.square() + y.square()).sqrt(), torch.atan2(y, x)
        phi, slope = between(theta, self.theta, self.phi)
        return rho, phi, (x * ahead + y * across) / rho, slope * (x * across - y * ahead) / rho.square()

    def alpha(self, t: Tensor) -> Tensor:
        rho, phi, _, _ = self.place(t)
        return (rho * phi.cos() / self.size).to(t.dtype)

    def sigma(self, t: Tensor) -> Tensor:
        rho, phi, _, _ = self.place(t)
        return (rho * phi.sin()).to(t.dtype)

    def rates(self, t: Tensor) -> tuple[Tensor, Tensor]:
        rho, phi, d_rho, d_phi = self.place(t)
        d_alpha = (d_rho * phi.cos() - rho * phi.sin() * d_phi) / self.size
        return d_alpha.to(t.dtype), (d_rho * phi.sin() + rho * phi.cos() * d_phi).to(t.dtype)

    def time_of_ratio(self, ratio: Tensor) -> Tensor:
        """Where the ray of an angle meets the straight line."""
        theta, _ = between((ratio / self.size).atan(), self.phi, self.theta)
        last = float(self.theta[-1])
        sine = theta.sin()
        return self.size * sine / (math.sin(last) * theta.cos() - (math.cos(last) - self.size) * sine)


def between(value: Tensor, knots: Tensor, heights: Tensor) -> tuple[Tensor, Tensor]:
    """Linear interpolation of a table (K,) at values of any shape, and its slope there."""
    knots, heights = knots.to(value.device), heights.to(value.device)
    i = torch.searchsorted(knots, value.detach().contiguous()).clamp(1, len(knots) - 1)
    slope = (heights[i] - heights[i - 1]) / (knots[i] - knots[i - 1])
    return heights[i - 1] + slope * (value - knots[i - 1]), slope


def separation_of(x: Tensor, ratios: Tensor, draws: int) -> Tensor:
    """lambda = 1 - E |x_0 - E[x_0 | x_0 + r eps]|^2 / E |x_0|^2 of records x (N, D), at noise ratios r (K,).

    The same `draws` records and numbers eps serve all ratios, whatever the run's seed.
    """
    exact = MixtureDenoiser(x, x.new_zeros(len(x), 1), x.new_ones(len(x)))
    numbers = generator(0, "separation")
    clean = x[torch.randint(len(x), (draws,), generator=numbers)]
    noise = torch.randn(clean.shape, generator=numbers, dtype=x.dtype)
    lost = []
    for ratio in ratios:
        guess = exact.denoise(clean + ratio * noise, ratio.new_ones(()).expand(draws), ratio.expand(draws))
        lost.append((clean - guess).square().mean())
    return 1 - torch.stack(lost) / x.square().mean()

"""Kinetic optimal paths, against the definition of the energy and laws whose separation is known."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.integrate import quad

from compendium.errors import UserError
from modules.generative.gaussian.kinetic import KineticOptimal, separation_of
from tests.modules.generative.exact import configured
from tests.modules.generative.samplers.checkpoints import fitted

GRID = {"_target_": "datamodules.sources.densities.Grid", "std": 0.3}


def two_points(r: float) -> float:
    """The separation of the records -1 and 1 seen with noise r: E tanh^2((1 + r Z) / r^2)."""
    density = lambda z: math.exp(-z * z / 2) / math.sqrt(2 * math.pi)  # noqa: E731
    return quad(lambda z: math.tanh((1 + r * z) / r**2) ** 2 * density(z), -10, 10, limit=200)[0]


def energy_of(path, separation) -> float:
    """KE by the definition: alpha'^2 + sigma'^2 less the part of the conditional velocity that x_t does not tell."""
    t = torch.linspace(path.start, path.end, 4001, dtype=torch.float64)
    alpha, sigma = path.alpha(t), path.sigma(t)
    d_alpha, d_sigma = path.rates(t)
    untold = (d_alpha - alpha * d_sigma / sigma).square() * (1 - separation(sigma / alpha))
    return float(torch.trapezoid(d_alpha.square() + d_sigma.square() - untold, t))


def test_separation_is_that_of_two_points():
    ratios = torch.tensor([0.1, 0.5, 1.0, 2.0, 10.0], dtype=torch.float64)
    found = separation_of(torch.tensor([[-1.0], [1.0]], dtype=torch.float64), ratios, 40_000)
    expected = torch.tensor([two_points(float(r)) for r in ratios], dtype=torch.float64)
    torch.testing.assert_close(found, expected, atol=0.01, rtol=0)


def test_without_records_it_is_the_straight_line():
    path, line = KineticOptimal(), configured("path", "linear")
    t = torch.linspace(0.001, 0.999, 9, dtype=torch.float64)
    torch.testing.assert_close((path.alpha(t), path.sigma(t)), (line.alpha(t), line.sigma(t)))
    torch.testing.assert_close(path.rates(t), line.rates(t), atol=1e-7, rtol=1e-7)
    assert path.energy == pytest.approx(2)
    whole = {name: energy_of(configured("path", name), torch.ones_like) for name in ("linear", "trigonometric", "vp")}
    assert whole["linear"] == pytest.approx(2, rel=0.01)
    assert whole["trigonometric"] == pytest.approx(math.pi**2 / 4, rel=0.01)
    assert whole["vp"] > whole["trigonometric"]


def test_of_gaussian_data_nothing_need_move():
    """lambda = 1 / (1 + r^2): any variance preserving path stands still, and the optimum is one."""
    path = KineticOptimal()
    phi = torch.logspace(-3, 3, 400, dtype=torch.float64).atan()
    path.tabulate(phi, phi.cos().square())
    assert path.energy < 1e-3
    t = torch.linspace(0.001, 0.999, 9, dtype=torch.float64)
    size = path.alpha(t).square() + path.sigma(t).square()
    torch.testing.assert_close(size, torch.ones_like(t), atol=1e-3, rtol=0)


def test_its_energy_is_the_least_and_what_it_says():
    """Two points, whose separation quadrature gives: the closed form, the definition, and other paths."""
    grid = torch.logspace(-3, 3, 400, dtype=torch.float64)
    known = torch.tensor([two_points(float(r)) for r in grid], dtype=torch.float64)
    path = KineticOptimal()
    path.tabulate(grid.atan(), known)

    def separation(ratio):
        i = torch.searchsorted(grid.log(), ratio.log()).clamp(1, len(grid) - 1)
        share = ((ratio.log() - grid.log()[i - 1]) / (grid.log()[i] - grid.log()[i - 1])).clamp(0, 1)
        return known[i - 1] + share * (known[i] - known[i - 1])

    best = energy_of(path, separation)
    assert best == pytest.approx(path.energy, rel=0.02)
    others = [energy_of(configured("path", name), separation) for name in ("linear", "trigonometric", "cosine", "vp")]
    assert best < 0.98 * min(others)
    # A path beside the optimum costs more.
    bent = energy_of(Bent(path), separation)
    assert bent > 1.005 * best


class Bent:
    """Another path, with the angles of one run through unevenly."""

    def __init__(self, path):
        self.path, self.start, self.end = path, path.start, path.end

    def warped(self, t):
        return t + 0.1 * torch.sin(math.pi * t)

    def alpha(self, t):
        return self.path.alpha(self.warped(t))

    def sigma(self, t):
        return self.path.sigma(self.warped(t))

    def rates(self, t):
        pace = 1 + 0.1 * math.pi * torch.cos(math.pi * t)
        return tuple(pace * rate for rate in self.path.rates(self.warped(t)))


def test_a_models_kinetic_energy_is_the_paths(tmp_path):
    """Monte Carlo over the field of Gaussian records of another size, against the closed form of its integrand."""
    torch.manual_seed(0)
    x = 2 * torch.randn(20_000, 2)
    model, _ = fitted(x, tmp_path, path="linear")
    found = torch.cat([model.kinetic_energy(x) for _ in range(5)]).mean()

    def rate(t):  # the velocity of N(0, 4) on the line is x d ln(std) / dt
        std = math.sqrt(4 * (1 - t) ** 2 + t**2)
        return ((-4 * (1 - t) + t) / std) ** 2

    assert float(found) == pytest.approx(quad(rate, 0, 1)[0], rel=0.02)


def test_separation_tends_to_1_as_records_become_few_for_their_dimensions():
    found = []
    for dimensions in (2, 20, 200):
        x = torch.randn(100, dimensions, generator=torch.Generator().manual_seed(0)).double()
        x = x / x.square().mean().sqrt()
        found.append(float(separation_of(x, torch.tensor([2.0]).double(), 500)))
    assert found[0] < found[1] < 0.5
    assert found[2] > 0.99


def test_records_of_a_source_make_a_path_of_less_energy():
    path = KineticOptimal(GRID, records=500)
    t = torch.linspace(path.start, path.end, 200, dtype=torch.float64)
    assert path.energy < 0.6 * (1 + path.size**2)
    assert (path.noise_ratio(t).diff() > 0).all()
    with pytest.raises(UserError, match="at least 2"):
        KineticOptimal(records=1)


def test_the_time_of_a_noise_ratio_is_where_it_is_reached():
    path = KineticOptimal(GRID, records=200)
    t = torch.linspace(path.start, path.end, 50, dtype=torch.float64)
    torch.testing.assert_close(path.time_of_ratio(path.noise_ratio(t)), t)

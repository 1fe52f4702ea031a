"""Laws are checked against integration, automatic differentiation and the moments of their samples."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.densities import Checkerboard, GaussianMixture, Grid, Mixture, Moons, Ring, Spiral

PLANE = [Ring, Grid, Checkerboard, Moons, Spiral]
CELL = 0.05**2  # the narrowest Gaussian has a standard deviation of 0.05, for which the sum is still exact to 1e-8
SMOOTH = [Ring, Grid, Moons, Spiral, Mixture]


def on_grid(law) -> torch.Tensor:
    """Log density in the centres of the cells of a grid over [-6, 6]^2."""
    ticks = torch.arange(-6, 6, 0.05, dtype=torch.float64) + 0.025
    return torch.cat([law.log_prob(part) for part in torch.cartesian_prod(ticks, ticks).split(2_000)])


@pytest.mark.parametrize("source", PLANE)
def test_density_integrates_to_one(source):
    assert float(on_grid(source().law()).exp().sum()) * CELL == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("source", SMOOTH)
def test_score_is_the_gradient_of_log_prob(source):
    law = source().law()
    x = (law.sample(200, generator(1)).double() * 1.3).requires_grad_()
    (gradient,) = torch.autograd.grad(law.log_prob(x).sum(), x)
    torch.testing.assert_close(law.score(x.detach()), gradient, rtol=1e-9, atol=1e-9)


def test_log_prob_and_score_of_one_gaussian_have_their_closed_form():
    law = GaussianMixture(torch.tensor([[1.0, -2.0, 3.0]]), 2.0)
    x = torch.randn(50, 3, generator=generator(0), dtype=torch.float64)
    normal = torch.distributions.Normal(torch.tensor([1.0, -2.0, 3.0], dtype=torch.float64), 2.0)
    torch.testing.assert_close(law.log_prob(x), normal.log_prob(x).sum(1))
    torch.testing.assert_close(law.score(x), (normal.mean - x) / 4)


def test_unequal_weights_and_widths():
    law = GaussianMixture(torch.tensor([[-1.0], [2.0]]), torch.tensor([0.5, 1.5]), torch.tensor([3.0, 1.0]))
    mixture = torch.distributions.MixtureSameFamily(
        torch.distributions.Categorical(torch.tensor([0.75, 0.25], dtype=torch.float64)),
        torch.distributions.Normal(law.means[:, 0], law.std),
    )
    x = torch.linspace(-5, 8, 40, dtype=torch.float64)
    torch.testing.assert_close(law.log_prob(x[:, None]), mixture.log_prob(x))
    samples = law.sample(40_000, generator(0)).double()
    assert float(samples.mean()) == pytest.approx(float(mixture.mean), abs=0.03)
    assert float(samples.var()) == pytest.approx(float(mixture.variance), rel=0.03)


@pytest.mark.parametrize("source", [*PLANE, Mixture])
def test_samples_have_the_moments_and_the_entropy_of_the_law(source):
    """The mean of log_prob over samples is the negative entropy; on a grid it comes from the density alone."""
    law = source().law()
    samples = law.sample(40_000, generator(0)).double()
    assert samples.dtype == torch.float64
    if isinstance(law, GaussianMixture):
        mean = law.weights @ law.means
        square = law.weights @ (law.means.square() + law.std.square()[:, None])
        spread = square.sub(mean.square()).sqrt()
        assert ((samples.mean(0) - mean).abs() < 5 * spread / math.sqrt(40_000)).all()
        torch.testing.assert_close(samples.square().mean(0), square, rtol=0.05, atol=0.02)
    if source is not Mixture:
        log = on_grid(law)
        entropy = torch.where(log.isfinite(), log.exp() * log, 0).sum() * CELL
        assert float(law.log_prob(samples).mean()) == pytest.approx(float(entropy), abs=0.03)


def test_far_away_the_law_stays_finite_in_float32():
    law = Grid().law()
    far = torch.tensor([[1e4, -1e4]])
    assert law.log_prob(far).isfinite().all()
    # The nearest Gaussian alone is left, and pulls with distance over variance.
    torch.testing.assert_close(law.score(far), (torch.tensor([[4.0, -4.0]]) - far) / 0.05**2)


def test_checkerboard_is_constant_on_half_of_its_square():
    law = Checkerboard().law()
    x = torch.tensor([[0.5, 0.5], [2.5, 0.5], [-0.5, -0.5], [-3.5, 3.5], [4.5, 0.5], [-3.5, -1.5]])
    inside = torch.tensor([True, False, True, False, False, False])
    assert torch.equal(law.log_prob(x).isfinite(), inside)
    assert float(law.log_prob(x)[0]) == pytest.approx(-math.log(32))
    samples = law.sample(10_000, generator(0))
    assert law.log_prob(samples).isfinite().all()
    cells = samples.div(2).floor().long() + 2
    counts = (cells[:, 0] * 4 + cells[:, 1]).bincount()
    assert (counts > 0).sum() == 8
    assert counts[counts > 0].min() > 1250 - 5 * math.sqrt(1250)


@pytest.mark.parametrize("source", [Moons, Spiral])
def test_arcs_are_discretized_finely_enough(source):
    x = source().law().sample(2000, generator(0)).double()
    coarse, fine = source().law().log_prob(x), source(points=1000).law().log_prob(x)
    difference = (coarse - fine).abs()
    assert difference.median() < 1e-6
    assert difference.mean() < 2e-3  # what is left is at the ends


def test_records_are_drawn_per_split_from_a_fixed_seed():
    first, larger, other = Ring(train=50).load(), Ring(train=90).load(), Ring(train=50, seed=1).load()
    tests = [records.columns["x"][records.splits["test"]] for records in (first, larger, other)]
    assert torch.equal(tests[0], tests[1])  # a split does not depend on the size of the others
    assert not torch.equal(tests[0], tests[2])
    assert {split: len(rows) for split, rows in first.splits.items()} == {"train": 50, "validation": 2000, "test": 5000}
    assert len(torch.cat(list(first.splits.values())).unique()) == len(first.columns["x"]) == 7050
    assert first.truth is not None


def test_an_empty_split_is_refused():
    with pytest.raises(UserError, match=r"data\.test=0"):
        Moons(test=0)

"""What samplers have to do with each other, and with the law that they sample."""

from __future__ import annotations

import pytest
import torch

from compendium.config import choices
from compendium.errors import UserError
from modules.generative.gaussian.field import Field
from modules.generative.gaussian.paths import VariancePreserving
from modules.generative.gaussian.stops import Stops, asked, between, remembering, spread, tiled
from tests.modules.generative.exact import LAW, Known, configured


def drawn(name: str, path: str = "vp", n: int = 4000, steps: int = 200, seed: int = 0, **changes):
    torch.manual_seed(seed)
    model = Known(configured("path", path))
    times = configured("timesteps", "log_snr", steps=steps).times(model.path)
    field = model.field()
    start = field.prior(n, (2,), torch.empty(0, dtype=torch.float64))
    return configured("sampler", name, **changes).sample(field, start, times)


OTHERS = ("annealed_langevin", "best_of", "feynman_kac", "predictor_corrector", "reflection", "svdd", "teleportation")
SETTINGS = [(name, {}) for name in sorted(choices("sampler")) if name not in OTHERS]
SETTINGS += [
    ("ddim", {"eta": 1.0}),
    ("ddpm", {"variance": "forward"}),
    ("heun", {"churn": 40.0}),
    ("sde", {"level": 0.5}),
]


@pytest.mark.parametrize(("name", "changes"), SETTINGS)
def test_draws_have_the_moments_of_the_law(name, changes):
    """Mean and covariance of 4000 draws, to 5 standard errors of exact ones."""
    x = drawn(name, **changes)
    exact = LAW.sample(200_000, torch.Generator().manual_seed(1)).double()
    error = exact.std(0) / len(x) ** 0.5
    assert ((x.mean(0) - exact.mean(0)).abs() < 5 * error).all()
    torch.testing.assert_close(x.T.cov(), exact.T.cov(), atol=0.12, rtol=0)


def test_annealed_langevin_has_the_moments_of_the_law():
    x = drawn("annealed_langevin", path="ve", steps=30, corrections=20)
    exact = LAW.sample(200_000, torch.Generator().manual_seed(1)).double()
    torch.testing.assert_close(x.mean(0), exact.mean(0), atol=0.12, rtol=0)
    torch.testing.assert_close(x.T.cov(), exact.T.cov(), atol=0.15, rtol=0)


def test_ddim_at_eta_1_is_ddpm():
    """The same Gaussian: equal seeds give equal draws (Song et al. 2021, section 4.1)."""
    torch.testing.assert_close(drawn("ddim", n=50, steps=20, eta=1.0), drawn("ddpm", n=50, steps=20))


def test_what_a_path_says_of_all_stops_at_once_is_what_it_says_of_each():
    class Counting(VariancePreserving):
        asked = 0

        def alpha(self, t):
            self.asked += 1
            return super().alpha(t)

    path, times = Counting(), torch.linspace(1, 0.1, 7, dtype=torch.float64)
    known = remembering(path)
    for name in ("alpha", "sigma", "log_snr", "rates", "diffusion"):
        for stop, time in zip(Stops(times).all, times, strict=True):
            torch.testing.assert_close(getattr(known, name)(stop), getattr(path, name)(time), rtol=1e-14, atol=1e-15)
    path.asked, stops = 0, Stops(times).all
    for stop in [*stops, *stops]:
        known.alpha(stop)
    assert path.asked == 1
    other = Stops(times / 2).all
    assert known.alpha(other[3]).equal(path.alpha(times[3] / 2)), "stops of another sampling are others"


def test_a_stop_is_known_where_it_is_spread_over_records_and_computed_with_it_is_not():
    times, calls = torch.linspace(1, 0.1, 4, dtype=torch.float64), []

    def square(t):
        calls.append(t.shape)
        return t.square()

    x, stop = torch.zeros(3, 2), Stops(times).all[1]
    assert spread(stop, x).tolist() == [times[1].float()] * 3
    assert tiled(spread(stop, x), torch.zeros(6, 2)).tolist() == [times[1].float()] * 6
    assert asked(square, spread(stop, x)) == times[1].float().square()
    assert asked(square, spread(stop, x)) == times[1].float().square()
    assert calls == [(4,)]
    assert asked(square, stop / 2) == (times[1] / 2).square()
    assert tiled(torch.tensor([1.0, 2.0]), torch.zeros(4, 2)).tolist() == [1, 2, 1, 2]


def test_a_step_between_stops_is_worked_out_with_all_the_others():
    calls = []

    def ratio(path, s, t):
        calls.append(s.shape)
        return path.alpha(s) / path.alpha(t)

    path, times = VariancePreserving(), torch.linspace(1, 0.1, 5, dtype=torch.float64)
    stops = Stops(times).all
    for s, t in ((0, 1), (3, 4), (0, 1)):
        expected = path.alpha(times[s]) / path.alpha(times[t])
        torch.testing.assert_close(between(ratio, path, stops[s], stops[t]), expected)
    assert calls == [(4,)]
    for s, t in ((1, 0), (0, 2)):
        torch.testing.assert_close(
            between(ratio, path, stops[s], stops[t]), path.alpha(times[s]) / path.alpha(times[t])
        )
    assert calls[1:] == [(), ()]


def test_ddim_is_exact_for_a_point():
    """One step suffices where E[x_0 | x_t] does not depend on x_t."""
    path = VariancePreserving()
    point = torch.tensor([0.3, -2.0], dtype=torch.float64)
    field = Field(path, lambda x, t: point.expand_as(x))
    times = torch.tensor([1.0, 0.4], dtype=torch.float64)
    x = torch.randn(5, 2, dtype=torch.float64)
    noise = (x - path.alpha(times[0]) * point) / path.sigma(times[0])
    expected = path.alpha(times[1]) * point + path.sigma(times[1]) * noise
    for name in ("ddim", "dpm_solver", "exponential"):
        torch.testing.assert_close(configured("sampler", name, denoise=False).sample(field, x, times), expected)


def test_dpm_solver_equals_diffusers_formula_worked_by_hand():
    """Two steps of equation 2M of DPM-Solver++ for E[x_0 | x] = c x, in numbers."""
    path, c = VariancePreserving(), 0.8
    times = torch.tensor([0.9, 0.5, 0.2], dtype=torch.float64)
    a, s = path.alpha(times), path.sigma(times)
    lam = (a / s).log()
    h1, h2 = lam[1] - lam[0], lam[2] - lam[1]
    first = s[1] / s[0] - a[1] * ((-h1).exp() - 1) * c
    slope = (1 + h2 / h1 / 2) * c * first - h2 / h1 / 2 * c
    expected = s[2] / s[1] * first - a[2] * ((-h2).exp() - 1) * slope
    found = configured("sampler", "dpm_solver", denoise=False).sample(
        Field(path, lambda x, t: c * x), torch.ones(1, 1, dtype=torch.float64), times
    )
    torch.testing.assert_close(found[0, 0], expected)


def test_heuns_evaluations_are_counted_as_edm_counts_them():
    """2 n - 1 for n steps, the last of which is Euler's."""
    field = Known(configured("path", "edm")).field()
    times = configured("timesteps", "edm", steps=18).times(field.path)
    configured("sampler", "heun").sample(field, torch.randn(3, 2), times)
    assert field.calls == 35


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("ddim", {"eta": 1.5}),
        ("ddpm", {"variance": "none"}),
        ("heun", {"churn": -1.0}),
        ("sde", {"level": -1.0}),
        ("annealed_langevin", {"corrections": 0}),
        ("annealed_langevin", {"size": 0.0}),
    ],
)
def test_values_out_of_range_are_refused(name, changes):
    with pytest.raises(UserError, match=f"sampler.{next(iter(changes))}"):
        configured("sampler", name, **changes)

"""Expected improvement by quadrature, and which points a search acquires."""

from __future__ import annotations

import math

import mpmath
import pytest
import torch
from scipy import integrate, stats

from compendium.errors import UserError
from compendium.seeding import reseed
from datamodules.batches import Candidates
from datamodules.spec import DataSpec
from modules.networks.mlp import MLP
from modules.networks.stacked import Stacked
from modules.uncertainty.ei_ensemble import EIEnsemble
from modules.uncertainty.processes import standardised
from modules.uncertainty.sequential import SequentialSearch, log_expected_improvement

SPEC = DataSpec("d", "vector", (2,), target="real", sizes={"train": 40})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}
ADAM = {"_target_": "torch.optim.Adam", "lr": 0.01}


class Nearest(SequentialSearch):
    """Prefers points whose first coordinate is large, in steps of 1."""

    def score(self, x):
        return x[:, 0].floor()


def pool(count=40) -> Candidates:
    x = torch.rand(count, 2, generator=torch.Generator().manual_seed(0)) * 5
    return Candidates(x, x.sum(1), torch.arange(count))


def steps(search, batch, first, last, seed=0):
    with torch.no_grad():
        for step in range(first, last):
            reseed(seed, "step", step)
            search.accumulate(batch)
    return search.acquired_rows().tolist()


@pytest.mark.parametrize(("mean", "deviation", "best"), [(0.3, 1.2, 1.0), (-2.0, 0.5, 1.0), (3.0, 0.4, 1.0)])
def test_expected_improvement_is_the_integral(mean, deviation, best):
    law = stats.norm(mean, deviation)
    integral, _ = integrate.quad(lambda f: (f - best) * law.pdf(f), best, mean + 12 * deviation, epsabs=1e-14)
    found = log_expected_improvement(*map(torch.tensor, (mean, deviation, best))).exp().item()
    assert found == pytest.approx(integral, rel=1e-6)


@pytest.mark.parametrize("z", [8.0, 0.0, -0.5, -0.999, -1.001, -5.0, -40.0, -999.0, -1001.0, -1e6])
def test_its_logarithm_is_right_where_it_is_too_small_for_a_number(z):
    """In a thousand digits; EI itself is 0 in float64 from z = -39 on."""
    with mpmath.workdps(1000):
        s = mpmath.mpf("0.01")
        expected = float(mpmath.log(s * (mpmath.npdf(z) + z * mpmath.ncdf(z)))) if z > -100 else tail(z)
    mean = torch.tensor(z * 0.01, dtype=torch.float64)
    found = log_expected_improvement(mean, torch.tensor(0.01, dtype=torch.float64), torch.tensor(0.0))
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def tail(z):
    """ln of s phi(z) (1 / z^2 - 3 / z^4 + 15 / z^6)."""
    return -(z**2) / 2 - math.log(2 * math.pi) / 2 + math.log(0.01) + math.log(z**-2 - 3 * z**-4 + 15 * z**-6)


def test_it_is_finite_and_no_less_for_a_better_mean_where_nothing_is_uncertain():
    mean = torch.linspace(-1e3, 1e3, 2001, dtype=torch.float64)
    for deviation in (0.0, 1e-20, 1e-3, 1.0, 1e6):
        found = log_expected_improvement(mean, torch.full_like(mean, deviation), torch.tensor(0.5))
        assert bool(found.isfinite().all())
        assert bool((found.diff() >= 0).all())
    sure = log_expected_improvement(torch.tensor(3.0), torch.tensor(0.0), torch.tensor(0.5))
    assert sure.item() == pytest.approx(math.log(2.5))


def test_no_point_is_acquired_twice_and_no_other_response_is_seen():
    batch = pool()
    search = Nearest(SPEC, acquisitions=12, initial=4)
    rows = steps(search, batch, 0, 20)
    assert len(rows) == len(set(rows)) == 12
    x, y = search.measured()
    assert torch.equal(x, batch.x[rows].double())
    assert torch.equal(y, batch.y[rows].double())
    # The free point of the largest score, and of equal ones the first.
    for number in range(4, 12):
        free = [row for row in range(40) if row not in rows[:number]]
        assert rows[number] == max(free, key=lambda row: (math.floor(batch.x[row, 0]), -row))


def test_a_pool_may_be_smaller_than_what_is_asked_for_and_come_in_any_order():
    batch = pool(7)
    search = Nearest(SPEC, acquisitions=12, initial=4)
    rows = steps(search, batch, 0, 20)
    assert sorted(rows) == list(range(7))
    other = Candidates(*(column.flip(0) for column in batch))
    assert steps(Nearest(SPEC, acquisitions=12, initial=4), other, 0, 20) == rows


def test_a_network_learns_from_its_own_points_alone():
    torch.manual_seed(0)
    search = EIEnsemble(SPEC, net=NET, optimizer=ADAM, steps=40, members=2)
    nets = Stacked([MLP((2,), (1,), 8, 1) for _ in range(2)])
    start = {name: value.clone() for name, value in nets.state().items()}
    alone = MLP((2,), (1,), 8, 1)
    alone.load_state_dict({name: value[1] for name, value in start.items()})
    x, y = torch.randn(10, 2), torch.randn(10)
    among = torch.stack([torch.arange(10) < 6, torch.arange(10) >= 6])
    search.learn(nets, x, y, among)
    optimizer = torch.optim.Adam(alone.parameters(), lr=0.01)
    for _ in range(40):
        optimizer.zero_grad()
        (alone(x[6:])[:, 0] - y[6:]).square().mean().backward()
        optimizer.step()
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(nets.state()[name][1], value, atol=1e-5, rtol=1e-4)


def test_units():
    y = torch.tensor([1.0, 3.0, 8.0], dtype=torch.float64)
    unit, shift, scale = standardised(y)
    assert (float(shift), float(scale)) == (4.0, pytest.approx((26 / 3) ** 0.5))
    torch.testing.assert_close(shift + scale * unit, y)


@pytest.mark.parametrize("settings", [{"initial": 1}, {"acquisitions": 5}])
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError, match="acquisitions"):
        Nearest(SPEC, **settings)
    with pytest.raises(UserError, match="steps=0"):
        EIEnsemble(SPEC, net=NET, steps=0)

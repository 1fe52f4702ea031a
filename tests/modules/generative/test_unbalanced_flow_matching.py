"""Unbalanced couplings, against closed forms, POT and an assignment; and the flow between two Gaussians."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import linear_sum_assignment

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.unbalanced_flow_matching import UnbalancedFlowMatching, costs, coupled

SPEC = DataSpec(name="points", kind="vector", shape=(2,), sizes={"train": 100})
X, Y = (torch.randn(n, 2, generator=torch.Generator().manual_seed(n)).double() for n in (20, 30))


def method(**changes):
    values = compose(["model=generative/unbalanced_flow_matching"]).values
    arguments = values["model"] | {"net": values["net"], **changes}
    return UnbalancedFlowMatching(SPEC, **{key: value for key, value in arguments.items() if key != "_target_"})


def test_the_mass_between_two_points_is_the_closed_form():
    """p C + (epsilon + 2 lambda) (p log p - p + 1) is least at p = exp(-C / (epsilon + 2 lambda))."""
    epsilon, tau = 0.3, 0.8
    penalty = tau * epsilon / (1 - tau)
    found = coupled(torch.tensor([[2.0]]).double(), epsilon, tau, rounds=1000, tolerance=1e-12)
    assert float(found) == pytest.approx(-2.0 / (epsilon + 2 * penalty))


@pytest.mark.parametrize("tau", [0.5, 0.95])
def test_it_is_pots(tau):
    import ot

    epsilon, cost = 0.05, costs(X, Y)
    found = coupled(cost, epsilon, tau, rounds=5000, tolerance=1e-12).exp()
    a, b = (torch.full((n,), 1 / n).double().numpy() for n in cost.shape)
    more = {"numItermax": 100_000, "stopThr": 1e-14, "method": "sinkhorn"}
    expected = ot.unbalanced.sinkhorn_unbalanced(a, b, cost.numpy(), epsilon, tau * epsilon / (1 - tau), **more)
    torch.testing.assert_close(found, torch.as_tensor(expected), rtol=1e-5, atol=1e-10)


def test_a_balanced_one_has_the_marginals_and_in_the_limit_it_is_an_assignment():
    cost = costs(X, Y[:20])
    plan = coupled(cost, 0.003, 1.0, rounds=20_000, tolerance=1e-7).exp()
    for axis in (0, 1):
        torch.testing.assert_close(plan.sum(axis), torch.full((20,), 0.05).double(), rtol=1e-3, atol=0)
    best = cost[linear_sum_assignment(cost.numpy())].mean()
    assert float((plan * cost).sum()) == pytest.approx(float(best), rel=0.03)


def test_outliers_are_left_out_as_they_are_unbalanced():
    y = torch.cat([X + 0.1, torch.tensor([[300.0, 0.0]]).double()])
    cost = (X[:, None] - y).square().sum(2)
    shares = [coupled(cost, 1.0, tau, rounds=5000).exp().sum(0)[-1] for tau in (1.0, 0.95)]
    assert float(shares[0]) == pytest.approx(1 / 21, rel=1e-3)
    assert shares[1] < 1e-6


def test_pairs_are_drawn_from_the_coupling():
    """Two classes, 80% and 20% of the draws, 20% and 80% of the records: what the coupling says, they do."""
    torch.manual_seed(0)
    x = torch.cat([torch.zeros(80, 2), torch.tensor([0.0, 10.0]).expand(20, 2)])
    y = torch.cat([torch.zeros(20, 2), torch.tensor([0.0, 10.0]).expand(80, 2)]) + torch.tensor([1.0, 0.0])
    crossed = {}
    for tau in (1.0, 0.9):
        a, b = method(tau=tau, epsilon=0.05, rounds=5000).pairs(x.repeat(5, 1), y.repeat(5, 1))
        crossed[tau] = float((a[:, 1] != b[:, 1]).float().mean())
    assert crossed[1.0] == pytest.approx(0.6, abs=0.08)  # no balanced coupling crosses less
    assert crossed[0.9] < 0.02


def test_the_flow_of_an_exact_velocity_is_the_map():
    """v(t, x) of the map x -> 3 x, at x_t = (1 + 2 t) x: draws of N(0, s^2) end as N(0, 9 s^2)."""
    model = method(steps=64)
    model.net = Tripling()
    x = torch.randn(5, 2).double()
    torch.testing.assert_close(model.translate(x), 3 * x, rtol=1e-3, atol=0)
    assert model.loss(Unlabelled(x.float())) > 0


class Tripling(torch.nn.Module):
    def forward(self, x, t):
        return 2 * x / (1 + 2 * t)[:, None]


@pytest.mark.parametrize("wrong", [{"tau": 0.0}, {"tau": 1.5}, {"epsilon": 0.0}, {"coupling": "none"}])
def test_settings_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        method(**wrong)


def test_the_coupling_of_far_points_is_finite():
    assert coupled(1e6 * costs(X, Y), 0.01, 0.95).isfinite().all()

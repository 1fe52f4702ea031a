"""Bridges, the likelihood of a known flow, and regression onto the drifts of a mixture of two points."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.riemannian_mixture import RiemannianMixture

SPHERE = DataSpec(name="sphere", kind="vector", shape=(3,))
TORUS = DataSpec(name="torus", kind="vector", shape=(4,))


def made(spec=SPHERE, name="riemannian_mixture", kind=RiemannianMixture, **changes):
    values = compose([f"model=generative/{name}"]).values
    arguments = values["model"] | {"net": values["net"], **changes}
    return kind(spec, **{key: value for key, value in arguments.items() if key != "_target_"}).double()


def test_a_bridge_without_noise_is_a_geodesic_with_its_own_clock():
    """dX = b / (tau_1 - tau) log(z) dt covers the share tau_t / tau_1 = 2 t - t^2 of the way, from either end."""
    torch.manual_seed(0)
    model = made(rate=1e-12, simulation_steps=2000)
    y, z = (model.manifold.uniform(4, torch.empty(0).double()) for _ in range(2))
    t = torch.tensor([[0.2], [0.45], [0.7], [0.9]]).double()
    share = 2 * t - t.square()
    expected = model.manifold.exp(y, share * model.manifold.log(y, z))
    torch.testing.assert_close(model.bridged(y, z, t), expected, rtol=0, atol=2e-3)


def test_bridges_from_both_ends_have_one_law():
    """On the circle, y and z close together: a Brownian bridge, share of the way, variance tau (1 - share)."""
    torch.manual_seed(0)
    n, t = 20_000, 0.6
    model = made(DataSpec(name="circles", kind="vector", shape=(2,)), rate=0.02, simulation_steps=50)
    y = torch.tensor([1.0, 0.0]).double().expand(n, 2)
    z = torch.tensor([math.cos(0.3), math.sin(0.3)]).double().expand(n, 2)
    share = 2 * t - t**2
    tau = 0.02 / 2 * share
    x = model.bridged(y, z, torch.full((n, 1), t).double())
    angle = torch.atan2(x[:, 1], x[:, 0])
    assert float(angle.mean()) == pytest.approx(0.3 * share, abs=0.005)
    assert float(angle.var()) == pytest.approx(tau * (1 - share), rel=0.06)


@pytest.mark.parametrize(("spec", "factors"), [(SPHERE, 1), (TORUS, 2)])
def test_draws_lie_on_the_manifold(spec, factors):
    torch.manual_seed(0)
    model = made(spec, factors=factors).float()
    draws = model.manifold.split(model.sample(50))
    assert float((draws.norm(dim=-1) - 1).abs().max()) < 1e-6


def test_without_a_velocity_the_density_is_uniform():
    model = made()
    model.velocity = lambda x, t: torch.zeros_like(x)
    x = model.manifold.uniform(5, torch.empty(0).double())
    torch.testing.assert_close(model.log_prob(x), torch.full((5,), -math.log(4 * math.pi)).double())


def test_the_density_under_a_known_flow():
    """dX / dt = a (e - (e . X) X), towards e, is a Moebius map: with h = e . X at the end and its start h_0,

    artanh h = artanh h_0 + a t, and the density is (1 - h_0^2) / (1 - h^2) to the power 1, over 4 pi, as areas go.
    """
    model, a = made(margin=1e-6, likelihood_steps=64), 0.8
    pole = torch.tensor([0.0, 0.0, 1.0]).double()
    model.velocity = lambda x, t: a * model.manifold.tangent(x, pole.expand_as(x))
    x = model.manifold.uniform(20, torch.empty(0).double())
    h = x[:, 2]
    start = torch.tanh(torch.atanh(h) - a)
    # An area element between heights is 2 pi dh: the density by area is dh_0 / dh / (4 pi).
    expected = ((1 - start.square()) / (1 - h.square())).log() - math.log(4 * math.pi)
    torch.testing.assert_close(model.log_prob(x), expected, rtol=0, atol=1e-4)


def test_the_best_drifts_are_the_bridges_means():
    """Records at one point z: the forward loss of the bridge's own drift is zero, and of none it is not."""
    torch.manual_seed(0)
    model = made()
    z = torch.tensor([0.0, 0.6, 0.8]).double()

    def known(net, x, t):
        return model.bridge(x, z.expand_as(x), t[:, None], torch.ones(len(x), 1, dtype=torch.bool))

    batch = Unlabelled(z.expand(40, 3))
    assert float(model.loss(batch)["forward"].detach()) > 0.1
    model.at = known
    assert float(model.loss(batch)["forward"]) < 1e-12


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="factors=2"):
        made(factors=2)
    with pytest.raises(UserError, match=r"rate=0"):
        made(rate=0.0)
    with pytest.raises(UserError, match=r"margin=0.7"):
        made(margin=0.7)
    with pytest.raises(UserError, match="do not lie on the spheres"):
        made().loss(Unlabelled(torch.ones(2, 3).double()))

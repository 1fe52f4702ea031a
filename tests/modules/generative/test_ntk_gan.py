"""The flow against its kernel sums, an ODE solver, a moment that it conserves, and wide networks."""

from __future__ import annotations

import pytest
import torch
from scipy.integrate import solve_ivp

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.ntk_gan import NTKGAN
from modules.networks.tangent_kernels import relu_ntk

SPEC = DataSpec("points", "vector", (2,))


@pytest.fixture
def points():
    draw = torch.Generator().manual_seed(0)
    real = 3 + torch.randn(12, 2, generator=draw, dtype=torch.float64)
    return torch.randn(8, 2, generator=draw, dtype=torch.float64), real


def test_particles_descend_the_squared_mmd(points):
    """N / 2 times the gradient of MMD^2 by each particle is minus the field: k(x, x) counts twice in it."""
    x, real = points
    method = NTKGAN(SPEC, kernel="rbf", tau=0.7).double()
    at = x.clone().requires_grad_()

    def k(a, b):
        return torch.exp(-0.5 / 2 * torch.cdist(a, b).square())

    # Without the square root in the distance of a point to itself, whose slope is not defined.
    off = ~torch.eye(len(x), dtype=torch.bool)
    pairs = torch.exp(-0.25 * (at[:, None] - at).square().sum(-1))[off].sum() / len(x) ** 2
    mmd = pairs - 2 * k(at, real).mean()
    want = -0.7 * len(x) / 2 * torch.autograd.grad(mmd, at)[0]
    torch.testing.assert_close(method.field(x, real), want, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("tau", [0.1, 3.0])
def test_the_least_squares_discriminator_solves_its_flow(points, tau):
    """df/dt = -2 K (f - r) weighted by 1 / data and 1 / particles, by scipy's Runge-Kutta."""
    x, real = points
    train = torch.cat([real, x])
    method = NTKGAN(SPEC, loss="lsgan", tau=tau).double()
    kernel = relu_ntk(train, train).numpy()
    weight = torch.cat([torch.full((12,), 1 / 12), torch.full((8,), 1 / 8)]).double().numpy()
    goal = torch.cat([torch.ones(12), -torch.ones(8)]).double().numpy()
    flow = solve_ivp(lambda t, f: -2 * kernel @ (weight * (f - goal)), (0, tau), 0 * goal, rtol=1e-10, atol=1e-12)
    got = method.solved(train, train, 12)
    assert got.tolist() == pytest.approx(flow.y[:, -1].tolist(), abs=1e-7)


@pytest.mark.parametrize("loss", ["ipm", "lsgan"])
def test_finite_networks_approach_the_kernel(points, loss):
    torch.manual_seed(0)
    x, real = points
    want = NTKGAN(SPEC, loss=loss).double().field(x, real)
    errors = []
    for width in (16, 1024):
        method = NTKGAN(SPEC, loss=loss, width=width, descents=10).double()
        fields = torch.stack([method.field(x, real) for _ in range(5)])
        errors.append((((fields - want) ** 2).sum((1, 2)).mean().sqrt() / want.norm()).item())
    assert errors[1] < 0.4
    assert errors[0] > 3 * errors[1]  # the square root of 64 is 8; narrow networks also leave the linear regime


def test_particles_on_the_data_stay(points):
    _, real = points
    assert NTKGAN(SPEC).double().field(real, real).abs().max() < 1e-6


def test_a_batch_makes_its_moves_and_draws_are_the_particles(points):
    _, real = points
    torch.manual_seed(0)
    method = NTKGAN(SPEC, particles=5, moves=3, step=0.5).double()
    x = method.x.clone()
    for _ in range(3):
        x = x + 0.5 * method.field(x, real)
    method.accumulate(Unlabelled(real))
    torch.testing.assert_close(method.x, x)
    draws = method.sample(12)
    assert draws.shape == (12, 2)
    for part in (draws[:5], draws[5:10]):
        assert torch.equal(part.sort(0).values, x.sort(0).values)


@pytest.mark.parametrize(
    "wrong", [{"loss": "wgan"}, {"kernel": "laplace"}, {"particles": 0}, {"width": 0}, {"descents": 0}]
)
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}="):
        NTKGAN(SPEC, **wrong)


def test_a_finite_gaussian_kernel_is_refused():
    with pytest.raises(UserError, match="finite networks are ReLU networks"):
        NTKGAN(SPEC, kernel="rbf", width=8)

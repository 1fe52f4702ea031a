"""Geodesics, volumes and heat kernels against closed forms and quadrature."""

from __future__ import annotations

import math

import pytest
import torch

from modules.generative.manifolds.spheres import Spheres

PRODUCTS = [Spheres(1, 3), Spheres(2, 2), Spheres(2, 3)]


def points(manifold, n=50):
    torch.manual_seed(0)
    return manifold.uniform(n, torch.empty(0).double())


@pytest.mark.parametrize("manifold", PRODUCTS)
def test_exp_and_log_are_inverse_and_stay_on_the_manifold(manifold):
    x, z = points(manifold), points(manifold).roll(1, 0)
    v = manifold.log(x, z)
    torch.testing.assert_close(manifold.exp(x, v), z)
    torch.testing.assert_close(manifold.tangent(x, v), v)
    # The length of the logarithm is the distance: the root of the sum over factors of squared angles.
    angles = (manifold.split(x) * manifold.split(z)).sum(-1).arccos()
    torch.testing.assert_close(v.norm(dim=1), angles.square().sum(1).sqrt())
    torch.testing.assert_close(
        manifold.split(manifold.exp(x, 3 * v)).norm(dim=-1), torch.ones(50, manifold.factors).double()
    )


def test_geodesics_by_hand():
    sphere, x = Spheres(1, 3), torch.tensor([[0.0, 0.0, 1.0]]).double()
    quarter = sphere.exp(x, torch.tensor([[math.pi / 2, 0.0, 0.0]]).double())
    torch.testing.assert_close(quarter, torch.tensor([[1.0, 0.0, 0.0]]).double())
    torch.testing.assert_close(sphere.exp(x, torch.zeros(1, 3).double()), x)
    torch.testing.assert_close(sphere.log(x, x), torch.zeros(1, 3).double())
    near = torch.tensor([[1e-9, 0.0, 1.0]]).double()
    torch.testing.assert_close(sphere.log(x, near), torch.tensor([[1e-9, 0.0, 0.0]]).double(), rtol=1e-6, atol=1e-15)


def test_volumes_are_the_known_ones():
    assert Spheres(1, 3).log_volume == pytest.approx(math.log(4 * math.pi))
    assert Spheres(2, 2).log_volume == pytest.approx(2 * math.log(2 * math.pi))


def test_noise_is_standard_normal_in_each_tangent_direction():
    torch.manual_seed(0)
    x = torch.tensor([0.0, 0.6, 0.8]).double().expand(100_000, 3)
    noise = Spheres(1, 3).noise(x)
    torch.testing.assert_close(noise.T.cov(), torch.eye(3).double() - x[0].outer(x[0]), rtol=0, atol=0.02)


def test_the_heat_kernel_of_a_circle_is_a_wrapped_normal():
    torch.manual_seed(0)
    angle = (2 * torch.rand(40) - 1).double() * 2.5
    angle.requires_grad_()
    tau = torch.tensor(0.6).double()
    turns = 2 * math.pi * torch.arange(-8, 9).double()
    log_density = (-(angle[:, None] + turns).square() / (2 * tau)).logsumexp(1)
    (slope,) = torch.autograd.grad(log_density.sum(), angle)
    a = angle.detach()
    x, along = torch.stack([a.cos(), a.sin()], 1), torch.stack([-a.sin(), a.cos()], 1)
    start = torch.tensor([[1.0, 0.0]]).double().expand(40, 2)
    found = Spheres(1, 2).heat_score(x, start, tau.expand(40))
    torch.testing.assert_close(found, slope[:, None] * along, rtol=1e-6, atol=1e-8)


def test_the_heat_kernel_of_the_sphere_is_the_series_of_legendre_polynomials():
    from scipy.special import eval_legendre

    theta, tau, step = 1.1, 0.4, 1e-5

    def log_density(angle):
        terms = ((2 * k + 1) * math.exp(-k * (k + 1) * tau / 2) * eval_legendre(k, math.cos(angle)) for k in range(60))
        return math.log(sum(terms))

    slope = (log_density(theta + step) - log_density(theta - step)) / (2 * step)
    x = torch.tensor([[math.sin(theta), 0.0, math.cos(theta)]]).double()
    start = torch.tensor([[0.0, 0.0, 1.0]]).double()
    along = torch.tensor([[math.cos(theta), 0.0, -math.sin(theta)]]).double()
    found = Spheres(1, 3).heat_score(x, start, torch.tensor([tau]).double())
    torch.testing.assert_close(found, slope * along, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("manifold", PRODUCTS[:2])
def test_where_the_series_takes_over_both_agree(manifold):
    """Varadhan's asymptotics at tau = 0.1, at points that such a time reaches."""
    x = points(manifold)
    z = manifold.exp(x, 0.1**0.5 * manifold.noise(x))
    tau = torch.full((50,), 0.1).double()
    near = manifold.heat_score(z, x, tau, switch=0.2)
    torch.testing.assert_close(manifold.heat_score(z, x, tau, switch=0.05), near, rtol=0, atol=0.35)

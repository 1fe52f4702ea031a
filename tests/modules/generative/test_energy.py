"""Normalisers and Langevin steps against Gaussians."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.generative.energy import langevin, slope
from modules.generative.nce import NCE

LINE = DataSpec(name="line", kind="vector", shape=(1,))
PLANE = DataSpec(name="plane", kind="vector", shape=(2,))
LOCATION = {"_target_": "modules.networks.location.Location", "start": 1.5}
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


@pytest.mark.parametrize("spec", [LINE, PLANE])
def test_the_density_of_a_gaussian_energy_is_the_gaussians(spec):
    method = NCE(spec, tilted=False, net=LOCATION).double()
    x = torch.randn(30, spec.dimensions).double()
    expected = torch.distributions.Normal(1.5, 1.0).log_prob(x).sum(1)
    torch.testing.assert_close(method.log_prob(x), expected, rtol=1e-6, atol=1e-6)


def test_tilted_by_the_noise_two_gaussians_multiply():
    """N(1.5, 1) N(0, 2^2) is proportional to N(1.2, 0.8)."""
    method = NCE(LINE, noise_std=2.0, tilted=True, net=LOCATION).double()
    x = torch.randn(30, 1).double()
    expected = torch.distributions.Normal(1.2, math.sqrt(0.8)).log_prob(x).sum(1)
    torch.testing.assert_close(method.log_prob(x), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("tilted", [True, False])
def test_the_ratio_to_the_noise_is_the_same_law_twice(tilted):
    torch.manual_seed(0)
    method = NCE(PLANE, noise_mean=0.5, noise_std=2.0, tilted=tilted, net=MLP).double()
    x = torch.randn(30, 2).double()
    noise = torch.distributions.Normal(0.5, 2.0).log_prob(x).sum(1)
    with torch.no_grad():
        torch.testing.assert_close(method.noise_log_prob(x), noise)
        torch.testing.assert_close(method.log_ratio(x), method.log_unnormalised(x) - noise)


def test_in_many_dimensions_there_is_no_density():
    method = NCE(DataSpec(name="space", kind="vector", shape=(3,)), net=MLP)
    assert method.log_prob(torch.randn(4, 3)).isnan().all()


def test_langevin_steps_keep_the_variance_of_their_own_chain():
    """For N(m, s^2) the chain is linear: its stationary variance is s^2 / (1 - e^2 / (4 s^2))."""
    torch.manual_seed(0)
    mean, variance, size = 0.7, 0.25, 0.5
    x = langevin(lambda x: -0.5 * (x - mean).square().sum(1) / variance, torch.zeros(40_000, 1), 30, size)
    assert float(x.mean()) == pytest.approx(mean, abs=0.02)
    assert float(x.var()) == pytest.approx(variance / (1 - size**2 / (4 * variance)), rel=0.03)


@torch.inference_mode()
def test_slopes_exist_where_evaluations_run():
    x = torch.randn(5, 2)
    torch.testing.assert_close(slope(lambda x: -x.square().sum(1), x), -2 * x)


@torch.inference_mode()
def test_draws_follow_the_energy():
    torch.manual_seed(0)
    method = NCE(LINE, tilted=False, steps=300, step_size=0.3, net=LOCATION)
    x = method.sample(20_000)
    assert float(x.mean()) == pytest.approx(1.5, abs=0.05)
    assert float(x.var()) == pytest.approx(1 / (1 - 0.09 / 4), rel=0.05)


@pytest.mark.parametrize("wrong", ["noise_std", "noise_ratio", "extent", "step_size"])
def test_sizes_of_nothing_are_refused(wrong):
    with pytest.raises(UserError, match=f"model.{wrong}=0"):
        NCE(PLANE, net=MLP, **{wrong: 0})

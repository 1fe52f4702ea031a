"""Bounds against models whose likelihood is known: linear ones, and one latent dimension by quadrature."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from compendium.errors import MissingExtra, UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.latent import FlowPrior, log_mean_exp
from modules.generative.vae import VAE

SPEC = DataSpec(name="linear", kind="vector", shape=(3,))
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def linear_model(widen: float = 1.0, importance: int = 1) -> tuple[VAE, torch.distributions.MultivariateNormal]:
    """x = W z + b + noise, whose posterior is N(V W'(x - b) / s^2, V) with V = (I + W'W / s^2)^-1, diagonal here; and
    the law of x. `widen` multiplies the standard deviations of the encoder.
    """
    w = torch.tensor([[2.0, 0.0], [0.0, 0.5], [0.0, 0.0]], dtype=torch.float64)
    bias, std = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64), 0.7
    method = VAE(SPEC, likelihood="gaussian", std=std, latent=2, importance=importance, net=MLP).double()
    variance = torch.linalg.inv(torch.eye(2, dtype=torch.float64) + w.T @ w / std**2)
    encoder, decoder = nn.Linear(3, 4).double(), nn.Linear(2, 3).double()
    with torch.no_grad():
        pull = variance @ w.T / std**2
        encoder.weight.copy_(torch.cat([pull, torch.zeros(2, 3)]))
        spread = torch.log(torch.expm1(widen * variance.diagonal().sqrt() - 1e-4))
        encoder.bias.copy_(torch.cat([-pull @ bias, spread]))
        decoder.weight.copy_(w)
        decoder.bias.copy_(bias)
        method.decoder.log_std.fill_(math.log(std))
    method.encoder, method.decoder.net = encoder, decoder
    return method, torch.distributions.MultivariateNormal(bias, w @ w.T + std**2 * torch.eye(3).double())


def test_with_the_exact_posterior_every_weight_is_the_likelihood():
    torch.manual_seed(0)
    method, law = linear_model()
    x = law.sample((20,))
    likelihood, rate = method.log_weights(x, 3)
    torch.testing.assert_close(likelihood - rate, law.log_prob(x).expand(3, 20), rtol=1e-9, atol=1e-9)


def test_the_elbo_falls_short_by_the_divergence_of_the_posterior():
    """KL(N(m, w^2 v) | N(m, v)) = (w^2 - 1) / 2 - log w per dimension, whatever v."""
    torch.manual_seed(0)
    method, law = linear_model(widen=1.5)
    x = law.sample((4000,))
    gap = law.log_prob(x).mean() + torch.stack(tuple(method.loss(Unlabelled(x)).values())).sum()
    assert float(gap.detach()) == pytest.approx(2 * ((1.5**2 - 1) / 2 - math.log(1.5)), abs=0.05)


def test_more_importance_samples_tighten_the_bound():
    torch.manual_seed(0)
    method, law = linear_model(widen=1.5)
    x = law.sample((500,))
    with torch.no_grad():
        likelihood, rate = method.log_weights(x, 1024)
    weights = likelihood - rate
    gaps = [float((law.log_prob(x) - log_mean_exp(w)).mean()) for w in (weights[:1], weights[:16], weights)]
    assert gaps[0] > 4 * gaps[1] > 0
    assert abs(gaps[2]) < 0.01


def test_training_ascends_the_bound_of_k_samples():
    method, law = linear_model(importance=8)
    x = law.sample((5,))
    (bound,) = method.loss(Unlabelled(x)).values()
    torch.testing.assert_close(bound, -law.log_prob(x).mean(), rtol=1e-9, atol=1e-9)


def test_draws_and_codes_are_those_of_the_model():
    torch.manual_seed(0)
    method, law = linear_model()
    x = method.sample(50_000)
    torch.testing.assert_close(x.mean(0), law.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(x.T.cov(), law.covariance_matrix, atol=0.08, rtol=0)
    assert method.embed(x[:7]).shape == (7, 2)


@torch.no_grad()
def test_a_bernoulli_likelihood_is_that_of_quadrature():
    """One latent dimension: int p(x|z) N(z) dz by Gauss and Hermite, for all 8 records of three bits."""
    torch.manual_seed(0)
    spec = DataSpec(name="bits", kind="vector", shape=(3,), levels=2, bounds=(0.0, 1.0))
    method = VAE(spec, latent=1, net=MLP).double()
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    logits = method.decoder.net(torch.from_numpy(nodes)[:, None])
    given = torch.distributions.Bernoulli(logits=logits[:, None]).log_prob(x).sum(2).exp()
    exact = torch.from_numpy(weights / math.sqrt(2 * math.pi)) @ given
    assert float(exact.sum()) == pytest.approx(1, abs=1e-9)
    likelihood, rate = method.log_weights(x, 20_000)
    torch.testing.assert_close(log_mean_exp(likelihood - rate), exact.log(), atol=0.03, rtol=0)


def test_a_flow_is_a_density_and_draws_follow_it():
    torch.manual_seed(0)
    prior = FlowPrior(2, transforms=2, hidden=16).double()
    axis = torch.linspace(-9, 9, 361, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    with torch.no_grad():
        mass = prior.log_prob(grid).exp() * 0.05**2
        draws = prior.sample(20_000)
    assert float(mass.sum()) == pytest.approx(1, abs=1e-3)
    torch.testing.assert_close(draws.mean(0), (mass[:, None] * grid).sum(0), atol=0.05, rtol=0)


def test_zuko_missing_is_one_line(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "zuko", None)
    with pytest.raises(MissingExtra):
        FlowPrior(2)


def test_below_the_free_nats_the_code_costs_nothing():
    torch.manual_seed(0)
    method, law = linear_model()
    batch = Unlabelled(law.sample((64,)))
    rate = float(method.loss(batch)["rate"].detach())
    method.free_nats = rate + 5.0
    terms = method.loss(batch)
    assert float(terms["rate"].detach()) == method.free_nats
    assert not torch.autograd.grad(terms["rate"], method.encoder.bias, allow_unused=True)[0].any()


@pytest.mark.parametrize(
    "wrong",
    [{"latent": 0}, {"importance": 0}, {"prior": "flat"}, {"free_nats": -1.0}, {"free_nats": 1.0, "importance": 2}],
)
def test_what_makes_no_bound_is_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}"):
        VAE(SPEC, likelihood="gaussian", net=MLP, **wrong)

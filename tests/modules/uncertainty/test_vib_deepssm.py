"""VIB-DeepSSM against its loss written out, the laws of its draws, and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from compendium.errors import UserError
from datamodules.batches import Pointed
from datamodules.spec import DataSpec
from modules.capabilities import PointPredictor
from modules.networks.stochastic import penalty
from modules.uncertainty.vib_deepssm import VIBDeepSSM

SPEC = DataSpec("shapes", "image", (1, 4, 4), target="points", points=3, sizes={"train": 40})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}
LINEAR = {"_target_": "modules.networks.linear.Linear"}
NOISE = "modules.networks.stochastic."


def method(noise: str = "NoNoise", decoder=LINEAR, options=(), **parts) -> VIBDeepSSM:
    torch.manual_seed(0)
    model = VIBDeepSSM(
        SPEC, noise={"_target_": NOISE + noise, **dict(options)}, decoder=decoder, latent=2, net=NET, **parts
    )
    for parameter in model.net["decoder"].parameters():
        nn.init.normal_(parameter, std=0.5)
    return model


def batch(n: int = 5) -> Pointed:
    return Pointed(torch.randn(n, 1, 4, 4), torch.randn(n, 3, 2))


def moments(model: VIBDeepSSM, x):
    """Mean, spread of z and the exact law of the points, for a linear decoder: N(W m + b, W s^2 W^T)."""
    mean, spread = (part[0] for part in model.encode(x, 1))
    layer = next(part for part in model.net["decoder"].modules() if isinstance(part, nn.Linear))
    return mean, spread, layer(mean).view(-1, 3, 2), (spread.square() @ layer.weight.square().T).view(-1, 3, 2)


def test_without_noise_the_loss_is_that_of_the_bottleneck():
    model, data = method(draws=20_000, beta=0.5), batch()
    terms = model.loss(data)
    mean, spread, expected, variance = moments(model, data.x)
    law = Normal(expected, (variance + 0.01).sqrt())
    assert terms["nll"].item() == pytest.approx(-law.log_prob(data.points).mean().item(), rel=0.02)
    prior = kl_divergence(Normal(mean, spread), Normal(0.0, 1.0)).mean()
    torch.testing.assert_close(terms["bottleneck"], 0.5 * prior)
    assert float(terms["divergence"]) == 0


def test_variance_has_the_parts_that_it_should():
    model, data = method(draws=5000, thetas=4), batch()
    _, _, expected, variance = moments(model, data.x)
    assert variance.min().item() > 0.01
    mean, epistemic, aleatoric = model.predict_points(data.x)
    torch.testing.assert_close(mean, expected, atol=0.05, rtol=0)
    torch.testing.assert_close(aleatoric, variance + 0.01, rtol=0.1, atol=0)
    assert epistemic.abs().max().item() < 1e-10
    assert isinstance(model, PointPredictor)


def test_members_of_a_batch_ensemble_give_the_epistemic_variance():
    model, data = method("BatchEnsemble", options={"members": 3}, draws=400, thetas=3), batch()
    _, epistemic, _ = model.predict_points(data.x)
    at_means = model.decode(model.encode(data.x, 3)[0])
    torch.testing.assert_close(epistemic, at_means.var(0, correction=0))
    assert epistemic.min().item() > 0
    # Rows keep their members' order: member 0's points are those of the pass that it has alone.
    mean = model.encode(data.x, 3)[0]
    other = model.decode(torch.cat([mean[:1], torch.zeros_like(mean[1:])]))
    torch.testing.assert_close(other[0], at_means[0])


def test_the_divergence_of_weights_is_per_record_and_coordinate():
    model = method("ConcreteDropout", options={"length_scale": 1.0}, decoder=NET)
    terms = model.loss(batch())
    torch.testing.assert_close(terms["divergence"], penalty(model.net) / (40 * 6))
    sum(terms.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_bad_input():
    with pytest.raises(UserError, match="draws=1"):
        method(draws=1)
    with pytest.raises(UserError, match="points as its target"):
        VIBDeepSSM(SPEC.but(target="class", classes=("a", "b")), noise={}, decoder=LINEAR, net=NET)

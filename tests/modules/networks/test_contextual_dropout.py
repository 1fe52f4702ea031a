"""Contextual dropout against Bernoulli laws of torch.distributions and its limits."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.distributions import Bernoulli, kl_divergence

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.cnn import CNN
from modules.networks.contextual_dropout import ContextualDropout, ContextuallyDropped, divergence
from modules.networks.stochastic import local_penalty
from modules.uncertainty.stochastic import StochasticClassifier


def test_divergence_is_that_of_bernoulli_laws():
    logits, prior = torch.linspace(-8, 8, 9, dtype=torch.float64), torch.tensor([0.7], dtype=torch.float64)
    expected = kl_divergence(Bernoulli(logits=logits), Bernoulli(logits=prior.expand(9)))
    torch.testing.assert_close(divergence(logits, prior), expected)
    torch.testing.assert_close(divergence(prior, prior), torch.zeros(1, dtype=torch.float64))


def test_units_are_kept_as_often_as_the_record_says():
    torch.manual_seed(0)
    layer = ContextuallyDropped(nn.Linear(3, 3, bias=False), 0.5, 1.0, 1e-3, 4)
    nn.init.eye_(layer.layer.weight)
    nn.init.normal_(layer.law[2].weight)
    x = torch.tensor([[1.0, 2.0, -1.0], [-2.0, 1.0, 3.0]])
    kept = torch.stack([layer(x) / x for _ in range(4000)]).mean(0)
    expected = torch.sigmoid(layer.law(x))
    assert (expected[0] - expected[1]).abs().max() > 0.1
    torch.testing.assert_close(kept, expected, atol=0.03, rtol=0)


def test_a_law_that_reads_nothing_does_not_diverge_and_one_that_does_pays_for_it():
    spec = DataSpec("d", "vector", (6,), target="class", classes=("a", "b"), sizes={"train": 50})
    net = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}
    target = "modules.networks.contextual_dropout.ContextualDropout"
    torch.manual_seed(0)
    method = StochasticClassifier(spec, noise={"_target_": target, "weight": 2.0}, net=net)
    batch = Labelled(torch.randn(8, 6), torch.randint(2, (8,)))
    layers = [part for part in method.modules() if isinstance(part, ContextuallyDropped)]
    assert len(layers) == 2
    for layer in layers:
        nn.init.zeros_(layer.law[2].weight)
    assert method.loss(batch)["divergence"].item() == pytest.approx(0, abs=1e-6)
    for layer in layers:
        nn.init.constant_(layer.law[2].bias, 0.0)
    own = kl_divergence(Bernoulli(0.5), Bernoulli(0.9))
    loss = method.loss(batch)
    assert loss["divergence"].item() == pytest.approx(2 * 2 * float(own), rel=1e-5)
    sum(loss.values()).backward()
    assert local_penalty(method.net) == 0


def test_channels_are_dropped_as_a_whole():
    net = CNN((1, 8, 8), (3,), channels=(8, 16))
    ContextualDropout(p=0.3).attach(net)
    assert net(torch.randn(5, 1, 8, 8)).shape == (5, 3)


def test_bad_input():
    with pytest.raises(UserError, match="weight=-1"):
        ContextualDropout(weight=-1.0)

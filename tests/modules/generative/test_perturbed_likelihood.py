"""A law on a line in the plane: without perturbation its likelihood has no maximum, with s0 it is at sigma = s0."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.perturbed_likelihood import PerturbedLikelihood

SPEC = DataSpec(name="line", kind="vector", shape=(2,))
MLP = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}
RECORDS = 40_000


def on_the_line(sigma: float, perturbation: float) -> PerturbedLikelihood:
    """f(z) = (z, 0) with its exact posterior N(x1 / (1 + s^2), s^2 / (1 + s^2)) of sigma = s."""
    method = PerturbedLikelihood(SPEC, perturbation, sigma, latent=1, importance=1, net=MLP).double()
    encoder, decoder = nn.Linear(2, 2).double(), nn.Linear(1, 2, bias=False).double()
    with torch.no_grad():
        encoder.weight.copy_(torch.tensor([[1 / (1 + sigma**2), 0.0], [0.0, 0.0]]))
        spread = sigma / math.sqrt(1 + sigma**2) - 1e-4
        encoder.bias.copy_(torch.tensor([0.0, math.log(math.expm1(spread))]))
        decoder.weight.copy_(torch.tensor([[1.0], [0.0]]))
    method.encoder, method.decoder.net = encoder, decoder
    return method


def loss(sigma: float, perturbation: float) -> float:
    torch.manual_seed(0)
    x = torch.stack([torch.randn(RECORDS), torch.zeros(RECORDS)], 1).double()
    terms = on_the_line(sigma, perturbation).loss(Unlabelled(x))
    return float(torch.stack(tuple(terms.values())).sum().detach())


@pytest.mark.parametrize("sigma", [0.1, 0.3, 0.9])
def test_the_loss_is_the_cross_entropy_of_two_gaussians(sigma):
    """Perturbed records are N(0, diag(1 + s0^2, s0^2)), the model is N(0, diag(1 + s^2, s^2))."""
    s0 = 0.3
    variances = ((1 + s0**2, 1 + sigma**2), (s0**2, sigma**2))
    expected = sum(0.5 * (math.log(2 * math.pi * model) + data / model) for data, model in variances)
    assert loss(sigma, s0) == pytest.approx(expected, rel=0.01, abs=0.03)


def test_sigma_is_drawn_to_the_perturbation_and_without_one_to_zero():
    at = [0.1, 0.2, 0.3, 0.4, 0.6]
    assert min(at, key=lambda sigma: loss(sigma, 0.3)) == 0.3
    falling = [loss(sigma, 0.0) for sigma in (0.1, 0.01, 0.001)]
    # Each tenth of sigma is worth log 10 more nats: there is no maximum.
    assert falling[0] - falling[1] == pytest.approx(math.log(10), abs=0.02)
    assert falling[1] - falling[2] == pytest.approx(math.log(10), abs=0.2)


def test_draws_lie_on_the_set_itself():
    torch.manual_seed(0)
    draws = on_the_line(0.3, 0.3).sample(20_000)
    assert not draws[:, 1].any()
    assert float(draws[:, 0].std()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("wrong", [{"perturbation": -0.1}, {"std": 0.0}])
def test_negative_deviations_are_refused(wrong):
    with pytest.raises(UserError, match=f"model.{next(iter(wrong))}="):
        PerturbedLikelihood(SPEC, net=MLP, **wrong)

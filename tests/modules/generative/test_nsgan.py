"""The non-saturating losses by hand."""

from __future__ import annotations

import math

import pytest
import torch

from datamodules.spec import DataSpec
from modules.generative.nsgan import NSGAN

SPEC = DataSpec(name="line", kind="vector", shape=(1,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


def test_losses_are_those_of_logistic_regression():
    """Odds of being real: 3 to 1 for the data, 1 to 1 and 1 to 4 for what was generated."""
    method = NSGAN(SPEC, net=NET)
    real, fake = torch.tensor([3.0, 3.0]).log(), torch.tensor([1.0, 0.25]).log()
    expected = [-math.log(3 / 4) - math.log(1 / 2), -math.log(3 / 4) - math.log(4 / 5)]
    assert method.discriminator_loss(real, fake).tolist() == pytest.approx(expected, rel=1e-6)
    assert method.generator_loss(real, fake).tolist() == pytest.approx([math.log(2), math.log(5)], rel=1e-6)


def test_the_generator_is_pulled_where_it_is_found_out():
    """The reason for this loss: on a record that is surely taken for generated, its slope is 1 and not 0."""
    score = torch.tensor([-40.0], requires_grad=True)
    NSGAN(SPEC, net=NET).generator_loss(torch.zeros(1), score).backward()
    assert score.grad.item() == pytest.approx(-1)


def test_losses_survive_extreme_scores():
    method = NSGAN(SPEC, net=NET)
    far = torch.tensor([1e4, -1e4])
    assert method.discriminator_loss(far, -far).tolist() == pytest.approx([0.0, 2e4])
    assert method.generator_loss(far, far).tolist() == pytest.approx([0.0, 1e4])

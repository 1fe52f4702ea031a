"""The relativistic losses by hand, and what they do not see."""

from __future__ import annotations

import math

import pytest
import torch

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.r3gan import R3GAN

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 2}


def test_losses_are_those_of_the_pair():
    """The score of the data is ahead by log 3 in the first pair, and behind by log 4 in the second."""
    method = R3GAN(SPEC, net=NET)
    real, fake = torch.tensor([3.0, 0.5]).log(), torch.tensor([1.0, 2.0]).log()
    assert method.discriminator_loss(real, fake).tolist() == pytest.approx([math.log(4 / 3), math.log(5)], rel=1e-6)
    assert method.generator_loss(real, fake).tolist() == pytest.approx([math.log(4), math.log(5 / 4)], rel=1e-6)


def test_a_constant_in_the_scores_changes_nothing_and_is_not_trained():
    torch.manual_seed(0)
    method = R3GAN(SPEC, net=NET).double()
    batch = Unlabelled(torch.randn(16, 2).double())

    def terms():
        torch.manual_seed(1)
        return torch.stack(tuple(method.loss(batch).values()))

    before = terms()
    with torch.no_grad():
        method.discriminator.last.bias += 5.0
    torch.testing.assert_close(terms(), before)
    assert not method.discriminator.last.bias.requires_grad


def test_with_the_same_scores_on_both_sides_nobody_gains():
    same = torch.randn(7, dtype=torch.float64)
    for loss in (R3GAN(SPEC, net=NET).discriminator_loss, R3GAN(SPEC, net=NET).generator_loss):
        torch.testing.assert_close(loss(same, same), torch.full((7,), math.log(2)).double())


@pytest.mark.parametrize("side", [8, 16])
def test_images_come_out_and_go_in(side):
    spec = DataSpec(name="images", kind="image", shape=(3, side, side))
    channels = [16, 8] if side == 8 else [16, 16, 8]
    net = {"_target_": "modules.networks.adversarial.residual", "channels": channels, "groups": 4}
    method = R3GAN(spec, latent=5, net=net)
    assert method.sample(2).shape == (2, 3, side, side)
    assert method.discriminator(torch.randn(2, 3, side, side)).shape == (2, 1)
    assert all(weight.requires_grad for weight in method.parameters())

"""The optimum of noise-contrastive estimation, and its flatness."""

from __future__ import annotations

import math

import pytest
import torch

from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.nce import NCE

LINE = DataSpec(name="line", kind="vector", shape=(1,))


def location(start: float, **arguments) -> NCE:
    net = {"_target_": "modules.networks.location.Location", "start": start}
    return NCE(LINE, tilted=False, net=net, **arguments).double()


def total(method: NCE, x: torch.Tensor) -> torch.Tensor:
    return torch.stack(tuple(method.loss(Unlabelled(x)).values())).sum()


@pytest.mark.parametrize("ratio", [1, 4])
def test_at_the_data_law_and_its_normaliser_nothing_moves(ratio):
    torch.manual_seed(0)
    method = location(0.8, noise_std=1.5, noise_ratio=ratio)
    with torch.no_grad():
        method.log_z.fill_(0.5 * math.log(2 * math.pi))
    x = (0.8 + torch.randn(200_000, 1)).double()
    for slope in torch.autograd.grad(total(method, x), [method.net.mean, method.log_z]):
        assert float(slope) == pytest.approx(0, abs=0.01)


def test_where_data_are_the_noise_the_loss_is_that_of_a_coin():
    torch.manual_seed(0)
    method = location(0.0, noise_std=1.0)
    with torch.no_grad():
        method.log_z.fill_(0.5 * math.log(2 * math.pi))
    assert float(total(method, torch.randn(50, 1).double()).detach()) == pytest.approx(2 * math.log(2), abs=1e-12)


def test_far_from_the_noise_the_loss_is_flat():
    """Noise N(-5, 1), data N(0, 1): at w = 0.5 the likelihood's slope is 0.5, that of the contrast a tenth of it."""
    torch.manual_seed(0)
    method = location(0.5, noise_mean=-5.0, noise_std=1.0)
    with torch.no_grad():
        method.log_z.fill_(0.5 * math.log(2 * math.pi))
    (slope,) = torch.autograd.grad(total(method, torch.randn(100_000, 1).double()), method.net.mean)
    assert abs(float(slope)) < 0.05

"""Two times in one network."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.dit import DiT
from modules.networks.mlp import MLP
from modules.networks.time import with_horizon
from modules.networks.unet import UNet

NETS = {
    "mlp": lambda **more: MLP((1, 4, 4), (1, 4, 4), width=16, depth=2, time=True, **more),
    "unet": lambda **more: UNet((1, 4, 4), (1, 4, 4), channels=[16, 16], time=True, **more),
    "dit": lambda **more: DiT((1, 4, 4), (1, 4, 4), width=16, depth=1, time=True, **more),
}


def woken(net):
    """The network with weights in the place of its zeros."""
    for weight in net.parameters():
        if not weight.abs().sum():
            nn.init.normal_(weight, std=0.3)
    return net


@pytest.mark.parametrize("classes", [0, 3])
@pytest.mark.parametrize("name", NETS)
def test_a_second_time_changes_nothing_at_first_and_something_later(name, classes):
    torch.manual_seed(0)
    net = woken(NETS[name](classes=classes))
    x, t, s = torch.randn(5, 1, 4, 4), torch.rand(5), torch.rand(5)
    before = net(x, t)
    with_horizon(net)
    torch.testing.assert_close(net(x, torch.stack([t, s], 1)), before)
    woken(net)
    after = net(x, torch.stack([t, s], 1))
    assert (after - net(x, torch.stack([t, s + 0.3], 1))).abs().flatten(1).amax(1).min() > 1e-4
    torch.testing.assert_close(net(x, torch.stack([t, t], 1)), net(x, t))


def test_a_network_without_a_time_is_refused():
    with pytest.raises(UserError, match="MLP has no time"):
        with_horizon(MLP((2,), (2,), width=4, depth=1))

"""A stack of networks against the networks one by one."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from modules.networks.cnn import CNN
from modules.networks.mlp import MLP
from modules.networks.stacked import Stacked, member


@pytest.mark.parametrize("kind", [MLP, CNN])
def test_outputs_and_gradients_are_those_of_each_network(kind):
    torch.manual_seed(0)
    options = {"width": 8, "depth": 2} if kind is MLP else {"channels": (8, 16)}
    single = [kind((1, 8, 8), (3,), **options).double() for _ in range(3)]
    stacked = Stacked([copy.deepcopy(net) for net in single])
    x = torch.randn(4, 1, 8, 8, dtype=torch.float64)
    outputs = stacked(x)
    torch.testing.assert_close(outputs, torch.stack([net(x) for net in single]))
    outputs.square().sum().backward()
    for place, net in enumerate(single):
        net(x).square().sum().backward()
        for name, weight in net.named_parameters():
            torch.testing.assert_close(stacked.net.get_parameter(name).grad[place], weight.grad)


def test_members_can_have_inputs_of_their_own_and_come_out_again():
    torch.manual_seed(0)
    single = [MLP((5,), (2,), width=4, depth=1) for _ in range(2)]
    stacked = Stacked([copy.deepcopy(net) for net in single])
    x = torch.randn(2, 6, 5)
    want = torch.stack([net(part) for net, part in zip(single, x, strict=True)])
    torch.testing.assert_close(stacked(x, own=True), want)
    fresh = MLP((5,), (2,), width=4, depth=1)
    fresh.load_state_dict(member(stacked, 1))
    torch.testing.assert_close(fresh(x[0]), single[1](x[0]))


def test_buffers_are_each_networks_own():
    torch.manual_seed(0)
    single = [nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)) for _ in range(2)]
    stacked = Stacked([copy.deepcopy(net) for net in single])
    x = torch.randn(8, 3)
    torch.testing.assert_close(stacked(x), torch.stack([net(x) for net in single]))
    torch.testing.assert_close(stacked.net[1].running_mean, torch.stack([net[1].running_mean for net in single]))


def test_members_are_different_modules():
    net = nn.Linear(2, 2)
    with pytest.raises(UserError, match="networks of its own"):
        Stacked([net, net])

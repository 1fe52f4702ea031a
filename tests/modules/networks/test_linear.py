"""The linear network is W x + b from zero."""

from __future__ import annotations

import torch

from modules.networks.linear import Linear


def test_it_is_a_linear_map_that_begins_at_zero():
    net, x = Linear((1, 2, 3), (4, 2)), torch.randn(5, 1, 2, 3)
    assert torch.equal(net(x), torch.zeros(5, 4, 2))
    torch.nn.init.normal_(net.last.weight)
    expected = torch.einsum("od,bd->bo", net.last.weight, x.flatten(1)).view(5, 4, 2)
    torch.testing.assert_close(net(x), expected)
    assert net.features == 6


def test_without_b_it_keeps_zero():
    net = Linear((3,), (2,), bias=False)
    torch.nn.init.normal_(net.last.weight)
    assert torch.equal(net(torch.zeros(1, 3)), torch.zeros(1, 2))
    assert [name for name, _ in net.named_parameters()] == ["last.weight"]

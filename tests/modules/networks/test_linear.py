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

"""Residual-in-residual dense blocks: shapes, the start, and the number of weights counted by hand."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from modules.networks.rrdb import RRDBNet


def test_it_begins_as_interpolation():
    x = torch.randn(2, 3, 5, 6)
    net = RRDBNet((3, 5, 6), (3, 20, 24), channels=8, growth=4, blocks=2, dense=2, layers=3)
    torch.testing.assert_close(net(x), F.interpolate(x, scale_factor=4, mode="bilinear"))


def test_weights_are_those_of_the_paper():
    # 23 blocks of 3 dense blocks: 3 x 3 convolutions from 64, 96, 128, 160 to 32 and from 192 to 64 channels.
    dense = sum(9 * (64 + 32 * n) * 32 + 32 for n in range(4)) + 9 * 192 * 64 + 64
    around = 9 * 3 * 64 + 64 + 3 * (9 * 64 * 64 + 64) + 9 * 64 * 3 + 3
    net = RRDBNet((3, 8, 8), (3, 32, 32))
    assert sum(weight.numel() for weight in net.parameters()) == 23 * 3 * dense + around


def test_dropout_stays_on_and_drops_nothing_on_average():
    torch.manual_seed(0)
    net = RRDBNet((1, 4, 4), (1, 8, 8), channels=8, growth=4, blocks=1, dense=1, layers=2, dropout=0.3).eval()
    torch.nn.init.normal_(net.last.weight, std=0.1)
    x = torch.randn(1, 1, 4, 4)
    assert not torch.equal(net(x), net(x))


@pytest.mark.parametrize(("side", "dropout"), [(24, 0.0), (20, 0.0), (16, 1.0)])
def test_other_factors_and_probabilities_are_refused(side, dropout):
    with pytest.raises(UserError, match="net"):
        RRDBNet((1, 8, 8), (1, side, side), dropout=dropout)

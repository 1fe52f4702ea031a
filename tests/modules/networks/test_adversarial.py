"""The residual players: identity at the start, the variance of the signal, sizes that do not fit."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.networks.adversarial import Block, residual


def test_a_block_begins_as_the_identity_and_can_leave_it():
    block, x = Block(8, groups=4, total=3), torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(block(x), x, rtol=0, atol=0)
    block(x).square().sum().backward()
    assert block.layers[-1].weight.grad.abs().sum() > 0


def test_signals_keep_their_variance_whatever_the_width():
    torch.manual_seed(0)
    scores = residual((3, 8, 8), (1,), channels=[128, 64])(torch.randn(500, 3, 8, 8))
    # Linear layers of variance 1 / fan-in; halving by interpolation averages four independent values once.
    assert scores.std().item() == pytest.approx(0.5, rel=0.3)
    images = residual((64,), (3, 8, 8), channels=[128, 64])(torch.randn(200, 64))
    assert 0.3 < images.std().item() < 1.5


def test_sizes_that_do_not_fit_are_named():
    with pytest.raises(UserError, match="for images of 8 x 8, not 28 x 28"):
        residual((1, 28, 28), (1,), channels=[64, 32])
    with pytest.raises(UserError, match=r"multiples of net\.groups=8"):
        residual((1, 8, 8), (1,), channels=[64, 12])

"""Digits on backgrounds of known brightness."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.digits import Digits
from datamodules.sources.shades import Shades


def test_the_class_says_how_bright_and_the_digit_lies_on_top():
    records = Shades(shades=4, room=0.8).load()
    x, y = records.columns["x"], records.columns["y"]
    background = x - 0.2 * Digits().load().columns["x"]
    level = background.flatten(1)
    assert float(level.std(1).max()) < 1e-6  # one shade per picture
    assert torch.equal((level[:, 0] / 0.2).floor().long(), y)
    assert x.aminmax().min >= 0
    assert x.aminmax().max <= 1
    assert len(records.spec.classes) == 4
    assert y.bincount(minlength=4).min() > 400


def test_the_seed_draws_the_backgrounds():
    first, again, other = (Shades(seed=seed).load().columns["x"] for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_arguments_out_of_range_are_refused():
    with pytest.raises(UserError, match="shades"):
        Shades(shades=1)
    with pytest.raises(UserError, match="room"):
        Shades(room=1.0)

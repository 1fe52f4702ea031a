"""Where digits are in their clips."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.digits import Digits
from datamodules.sources.moving_digits import MovingDigits


def test_every_frame_has_the_same_digit_on_a_straight_way():
    found = MovingDigits(side=14, frames=3, clips=40).load()
    pictures = Digits().load().columns["x"][:, 0]
    x, y = found.columns["x"], found.columns["y"]
    assert x.shape == (40, 3, 14, 14)
    for clip in range(40):
        corners = []
        for frame in x[clip]:
            # A digit may have empty rows: it is found by trying all places.
            windows = frame.unfold(0, 8, 1).unfold(1, 8, 1)
            same = (windows[:, :, None] == pictures[Digits().load().columns["y"] == y[clip]]).flatten(3).all(3)
            whole = windows.sum((2, 3)) == frame.sum()
            place = (same.any(2) & whole).nonzero()
            assert len(place) >= 1
            corners.append(place[0].float())
        if clip < 5:
            middle = (corners[0] + corners[2]) / 2
            assert (corners[1] - middle).abs().max() <= 1.5


def test_clips_are_the_same_for_the_same_seed_and_of_all_digits():
    one, two, other = (MovingDigits(clips=500, seed=seed).load().columns for seed in (0, 0, 1))
    assert torch.equal(one["x"], two["x"])
    assert not torch.equal(one["x"], other["x"])
    assert len(one["y"].unique()) == 10


def test_what_makes_no_sense_is_refused():
    with pytest.raises(UserError, match="side=7"):
        MovingDigits(side=7)

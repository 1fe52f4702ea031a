"""Holes where they belong, of the size that was asked for."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.masked_pictures import MaskedPictures
from datamodules.sources.digits import Digits


def test_the_centre_is_hidden():
    data = MaskedPictures(Digits(), hole=0.5)
    batch = data.records("test", 3)
    want = torch.ones(8, 8)
    want[2:6, 2:6] = 0
    assert torch.equal(batch.mask, want.expand(3, 1, 8, 8))
    assert batch.x.min() == -1
    assert batch.x.max() == 1
    assert data.spec.bounds == (-1, 1)


def test_random_holes_are_rectangles_of_all_sizes_and_places():
    data = MaskedPictures(Digits(), mask="random", hole=0.5)
    hidden = 1 - data.records("train", 1000).mask[:, 0]
    heights, widths = hidden.amax(2).sum(1), hidden.amax(1).sum(1)
    assert torch.equal(hidden.sum((1, 2)), heights * widths)  # no hole within a hole
    assert set(heights.tolist()) == set(widths.tolist()) == {2, 3, 4}
    assert (hidden.mean(0) > 0.01).all()  # the corners too
    batches = [next(iter(data.train_dataloader())).mask for _ in range(2)]
    assert torch.equal(*batches)  # a function of seed, epoch and batch


@pytest.mark.parametrize("wrong", [{"mask": "left"}, {"hole": 0}, {"hole": 1}])
def test_what_cannot_be_is_refused(wrong):
    with pytest.raises(UserError, match=f"datamodule.{next(iter(wrong))}="):
        MaskedPictures(Digits(), **wrong)

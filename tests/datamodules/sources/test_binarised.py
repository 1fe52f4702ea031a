"""Pictures in black and white."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.binarised import Binarised
from datamodules.sources.digits import Digits
from datamodules.sources.manifolds import Manifold


def test_grey_levels_from_the_threshold_on_are_one():
    grey, found = Digits().load(), Binarised(Digits(), threshold=0.5).load()
    assert torch.equal(found.columns["x"], (16 * grey.columns["x"] > 7.5).float())
    assert torch.equal(found.columns["y"], grey.columns["y"])
    assert (found.spec.levels, found.spec.bounds, found.spec.name) == (2, (0.0, 1.0), "binary digits")


def test_other_sources_and_thresholds_are_refused():
    with pytest.raises(UserError, match=r"data\.threshold"):
        Binarised(Digits(), threshold=0.0)
    with pytest.raises(UserError, match="no set of pictures"):
        Binarised(Manifold(train=5)).load()

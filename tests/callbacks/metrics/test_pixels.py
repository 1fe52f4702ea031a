"""Colours by hand and against Python's own HSV; contrast by hand."""

from __future__ import annotations

import colorsys

import pytest
import torch

from callbacks.metrics.pixels import contrast, extremes, saturation


def test_saturation_is_that_of_the_standard_library():
    pictures = torch.rand(3, 3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    pictures[0, :, 0, 0] = 0  # black has none
    pictures[0, :, 0, 1] = 0.7  # nor has grey
    theirs = [colorsys.rgb_to_hsv(*pixel)[1] for pixel in pictures.movedim(1, -1).reshape(-1, 3).tolist()]
    assert saturation(pictures).item() == pytest.approx(sum(theirs) / len(theirs), rel=1e-12)
    assert saturation(torch.tensor([1.0, 0.0, 0.0]).reshape(1, 3, 1, 1)).item() == 1


def test_extremes_are_the_first_and_the_last_level():
    levels = torch.arange(17).reshape(1, 1, 1, 17)
    assert extremes(levels / 16, 17).item() == pytest.approx(2 / 17, rel=1e-15)  # as the source has them
    within = (levels + torch.rand(1000, 1, 1, 17, generator=torch.Generator().manual_seed(0))) / 17  # dequantized
    assert extremes(within, 17).item() == pytest.approx(2 / 17, abs=1e-3)


def test_contrast_by_hand():
    """Half black and half white has 1/2; a grey picture has none; the mean is over pictures."""
    pictures = torch.zeros(2, 1, 2, 2)
    pictures[0, 0, 0] = 1
    pictures[1] = 0.3
    assert contrast(pictures).item() == pytest.approx(0.25, rel=1e-7)

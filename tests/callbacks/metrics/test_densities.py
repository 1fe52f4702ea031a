"""Bits per dimension worked out by hand."""

from __future__ import annotations

import math

import pytest

from callbacks.metrics.densities import bits_per_dimension
from datamodules.spec import DataSpec


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 1.0), (0.0, 255.0)])
def test_a_uniform_law_over_levels_takes_log2_of_them(levels, bounds):
    spec = DataSpec("uniform", "image", (3, 4, 5), levels=levels, bounds=bounds)
    nll = 60 * math.log(bounds[1] - bounds[0])  # the density is 1 / (hi - lo) in each of 60 components
    assert bits_per_dimension(nll, spec) == pytest.approx(math.log2(levels), abs=1e-12)


def test_continuous_data_has_no_width():
    assert bits_per_dimension(4 * math.log(2), DataSpec("v", "vector", (4,))) == pytest.approx(1)


def test_levels_of_unknown_width_are_undefined():
    assert math.isnan(bits_per_dimension(1.0, DataSpec("v", "image", (1, 2, 2), levels=17)))

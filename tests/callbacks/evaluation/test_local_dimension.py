"""The rule that counts dimensions."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.local_dimension import LocalDimension
from compendium.errors import UserError
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake


def test_values_that_fall_with_the_noise_are_not_counted():
    """From 0.2 to 0.04 noise falls by 5; the border is its root, 0.447."""
    before = torch.ones(2, 4, dtype=torch.float64)
    after = torch.tensor([[1.0, 0.9, 0.45, 0.2], [0.44, 0.3, 0.2, 0.1]], dtype=torch.float64)
    figures = LocalDimension(truth=2).figures_of(before, after)
    assert figures == {"local_dimension": 1.5, "dimension_error": 1.5}


def test_it_is_left_out_without_a_truth_and_refuses_ratios_that_rise():
    assert LocalDimension().misfit(Fake(), DataSpec(name="x", kind="vector", shape=(2,)))
    with pytest.raises(UserError, match="ratios"):
        LocalDimension(high=0.01)

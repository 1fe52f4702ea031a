"""Laws over the labels around a pixel against SciPy's filters."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch.nn import functional as F

from modules.uncertainty.neighbours import gaussian_kernel, proportions


def labels(classes=4):
    segments = torch.randint(classes, (3, 7, 9))
    return segments, F.one_hot(segments, classes).movedim(3, 1).double()


@pytest.mark.parametrize("size", [3, 5])
def test_shares_are_uniform_filters(size):
    _, hot = labels()
    expected = ndimage.uniform_filter(hot.numpy(), size=(0, 0, size, size), mode="nearest")
    torch.testing.assert_close(proportions(hot, "mean", size), torch.from_numpy(expected))


def test_half_of_the_gaussian_weights_is_the_centre():
    kernel = gaussian_kernel(3, 1.0).double()
    side, corner = math.exp(-0.5), math.exp(-1)
    around = 4 * side + 4 * corner
    expected = np.array([[corner, side, corner], [side, around, side], [corner, side, corner]]) / (2 * around)
    torch.testing.assert_close(kernel, torch.from_numpy(expected), rtol=1e-6, atol=0)
    _, hot = labels()
    filtered = np.stack([[ndimage.correlate(k, expected, mode="nearest") for k in one] for one in hot.numpy()])
    torch.testing.assert_close(proportions(hot, "gaussian", 3), torch.from_numpy(filtered), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("prior", "statistic"), [("min", np.min), ("max", np.max), ("median", np.median), ("mode", None)]
)
def test_hard_priors_are_statistics_of_the_class_numbers(prior, statistic):
    segments, hot = labels()
    statistic = statistic or (lambda patch: np.bincount(patch.astype(int)).argmax())
    expected = ndimage.generic_filter(segments.double().numpy(), statistic, size=(1, 3, 3), mode="nearest")
    law = proportions(hot, prior, 3)
    assert torch.equal(law.sum(1), torch.ones(3, 7, 9, dtype=torch.float64))
    assert torch.equal(law.argmax(1), torch.from_numpy(expected).long())


@pytest.mark.parametrize("prior", ["mean", "gaussian", "median"])
def test_within_a_region_the_law_is_the_label(prior):
    hot = F.one_hot(torch.full((1, 5, 5), 2), 3).movedim(3, 1).float()
    torch.testing.assert_close(proportions(hot, prior, 3), hot)

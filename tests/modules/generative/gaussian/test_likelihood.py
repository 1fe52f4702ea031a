"""Likelihood along the probability flow, against densities that are known."""

from __future__ import annotations

import pytest
import torch

from modules.generative.gaussian.likelihood import log_prob
from tests.modules.generative.exact import GAUSSIAN, LAW, Known, configured


@pytest.mark.parametrize("name", GAUSSIAN)
def test_of_a_mixture(name):
    x = LAW.sample(100, torch.Generator().manual_seed(0)).double()
    found = log_prob(Known(configured("path", name)).field(), x, steps=40)
    assert (found - LAW.log_prob(x)).mean().abs() < 2e-3
    assert (found - LAW.log_prob(x)).abs().max() < 0.1


def test_hutchinsons_estimate_is_unbiased():
    field = Known(configured("path", "trigonometric")).field()
    x = LAW.sample(4000, torch.Generator().manual_seed(1)).double()
    error = log_prob(field, x, steps=20, exact_trace=0) - log_prob(field, x, steps=20, exact_trace=2)
    assert error.abs().max() > 1e-3, "the estimate is no estimate"
    assert error.mean().abs() < 3 * error.std() / len(error) ** 0.5 + 1e-4

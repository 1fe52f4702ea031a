"""Mixtures of members by hand."""

from __future__ import annotations

import torch

from modules.uncertainty.members import mixture


def test_the_mixture_is_the_mean_of_probabilities_that_may_be_zero():
    certain = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]], [[0.5, 0.5]]]).log()
    torch.testing.assert_close(mixture(certain).exp(), torch.tensor([[0.5, 0.5]]))
    far = torch.tensor([[[-1e4, -2e4]], [[-1e4, -2e4]]])
    torch.testing.assert_close(mixture(far), far[0])

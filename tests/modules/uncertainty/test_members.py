"""Mixtures of members by hand."""

from __future__ import annotations

import math

import torch

from modules.uncertainty.members import entropy, mixture, mutual_information


def test_members_that_agree_share_nothing_and_certain_ones_that_differ_share_all():
    agreeing = torch.tensor([[[0.2, 0.8]], [[0.2, 0.8]]]).log()
    torch.testing.assert_close(mutual_information(agreeing), torch.zeros(1), atol=1e-6, rtol=0)
    certain = torch.tensor([[[1.0, 0.0]], [[0.0, 1.0]]]).log()
    torch.testing.assert_close(mutual_information(certain), torch.tensor([math.log(2)]))
    torch.testing.assert_close(mixture(certain).exp(), torch.tensor([[0.5, 0.5]]))


def test_entropy_is_torchs():
    proba = torch.rand(7, 5).softmax(1)
    torch.testing.assert_close(entropy(proba.log()), torch.distributions.Categorical(proba).entropy())

"""Win rates at one length, and diversity."""

from __future__ import annotations

import math

import pytest
import torch
from scipy.optimize import minimize

from callbacks.metrics.wins import distinct, length_controlled


def test_the_rate_at_one_length_is_that_of_the_likelihood():
    torch.manual_seed(0)
    longer = torch.randn(3000).mul(6).round()
    win = torch.sigmoid(0.4 + 1.5 * torch.tanh(longer / longer.std(correction=0)))
    assert length_controlled(win, longer) == pytest.approx(float(torch.sigmoid(torch.tensor(0.4))), abs=2e-3)
    noisy = (win + 0.1 * torch.randn(3000)).clamp(0, 1).double()
    x = torch.tanh(longer.double() / longer.double().std(correction=0)).numpy()

    def likelihood(w):
        p = 1 / (1 + torch.exp(-torch.as_tensor(w[0] + w[1] * x)))
        return float(-(noisy * p.log() + (1 - noisy) * (1 - p).log()).sum())

    found = minimize(likelihood, [0.0, 0.0], method="BFGS").x[0]
    assert length_controlled(noisy, longer) == pytest.approx(1 / (1 + math.exp(-found)), abs=1e-3)


def test_without_differences_it_is_the_win_rate():
    assert length_controlled(torch.tensor([0.2, 0.6]), torch.tensor([0, 0])) == pytest.approx(0.4)
    assert length_controlled(torch.tensor([1.0, 1.0]), torch.tensor([0, 2])) == 1
    assert math.isnan(length_controlled(torch.tensor([]), torch.tensor([])))


def test_pairs_of_tokens_are_counted_within_their_text():
    texts = torch.tensor([[9, 1, 2, 1, 2], [9, 1, 2, 3, 0]])
    own = torch.tensor([[0, 1, 1, 1, 1], [0, 1, 1, 1, 0]]).bool()
    assert distinct(texts, own) == 3 / 5  # (1, 2) (2, 1) (1, 2) and (1, 2) (2, 3)
    assert math.isnan(distinct(texts[:, :1], own[:, :1]))

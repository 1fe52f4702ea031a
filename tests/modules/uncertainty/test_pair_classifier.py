"""Pairs of responses: a law that is a mixture, known to the last digit."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Responses
from datamodules.spec import DataSpec
from modules.uncertainty.pair_classifier import PairClassifier, cheating

SPEC = DataSpec("coins", "vector", (1,), target="class", classes=("tails", "heads"))


class Table(nn.Module):
    """The same logits for every record."""

    def __init__(self):
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(3, 2, dtype=torch.float64))

    def forward(self, x):
        return self.logits.expand(len(x), 3, 2)


def test_calibrated_pairs_give_the_variance_of_the_law():
    # Coins that fall heads with probability 0.2, 0.5 and 0.9, which nobody can tell apart.
    heads, weights = torch.tensor([0.2, 0.5, 0.9]).double(), torch.tensor([0.5, 0.2, 0.3]).double()
    laws = torch.stack([1 - heads, heads], 1)
    first = weights @ laws
    pairs = torch.einsum("k,ka,kb->ab", weights, laws, laws)
    variance = (weights[:, None] * (laws - first).square()).sum(0)
    torch.testing.assert_close(cheating(first[None], (pairs / first[:, None])[None])[0], variance)
    # Whoever knows the law does not cheat; nor does one who is sure that responses repel each other.
    torch.testing.assert_close(cheating(first[None], first.expand(1, 2, 2)), torch.zeros(1, 2).double())
    assert torch.equal(cheating(first[None], torch.eye(2)[[1, 0]].double()[None]), torch.zeros(1, 2).double())


def test_the_least_loss_is_that_of_calibrated_pairs():
    pairs = torch.tensor([[0.4, 0.15], [0.15, 0.3]]).double()
    counts = (pairs.flatten() * 100).round().long()
    y, other = torch.tensor([[0, 0, 1, 1], [0, 1, 0, 1]]).repeat_interleave(counts, 1)
    method = PairClassifier(SPEC, net=Table())
    batch = Responses(torch.zeros(100, 1), y, other, torch.full((100, 2), torch.nan))
    optimizer = torch.optim.LBFGS(method.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        value = sum(method.loss(batch).values())
        value.backward()
        return value

    optimizer.step(closure)
    first, second = (part[0].exp().double() for part in method.log_laws(batch.x))
    torch.testing.assert_close(first, pairs.sum(1), atol=1e-3, rtol=0)
    torch.testing.assert_close(second, pairs / pairs.sum(1, keepdim=True), atol=1e-3, rtol=0)
    # P(heads, heads) - P(heads)^2, and the like of tails: 0.3 - 0.45^2 and 0.4 - 0.55^2.
    variance = method.epistemic_variance(batch.x)[0].double()
    torch.testing.assert_close(variance, torch.tensor([0.0975, 0.0975]).double(), atol=1e-3, rtol=0)
    assert method.uncertainty(batch.x)[0].item() == pytest.approx(0.195, abs=1e-3)


def test_needs_classes():
    with pytest.raises(UserError, match="PairClassifier"):
        PairClassifier(SPEC.but(target="real", classes=()), net=Table())

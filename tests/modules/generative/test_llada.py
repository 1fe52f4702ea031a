"""LLaDA: its loss by hand, and the prompt that is never masked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from compendium.errors import UserError
from datamodules.batches import Tokens
from datamodules.spec import DataSpec
from modules.generative.llada import LLaDA

SPEC = DataSpec(name="abc", kind="text", shape=(4,), vocabulary=3)


class Fixed(nn.Module):
    """p = (1/2, 1/4, 1/4) at all places; it notes what it reads."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor([0.5, 0.25, 0.25, 8.0]).log())
        self.read = []

    def forward(self, z):
        self.read.append(z)
        return self.logits.expand(*z.shape, 4)


def test_the_loss_is_the_cost_of_the_masks_over_t(monkeypatch):
    """t = 0.001 + 0.999 (i + 1/2) / 2 of the two records: 0.25075 and 0.75025. A place is masked where u >= 1 - t."""
    method = LLaDA(SPEC, net=Fixed())
    u = torch.tensor([[0.9, 0.1, 0.5, 0.1], [0.1, 0.9, 0.5, 0.3]])
    monkeypatch.setattr(torch, "rand", lambda *shape, **_: torch.tensor([0.5]) if shape == (1,) else u)
    batch = Tokens(torch.tensor([[0, 0, 1, 2, 1], [0, 1, 2, 0, 1]]))
    # Record one: its first token (1/2) is masked. Record two: the last three (1/4, 1/2, 1/4) are.
    expected = (math.log(2) / 0.25075 + 5 * math.log(2) / 0.75025) / 8
    assert float(method.loss(batch).detach()) == pytest.approx(expected, rel=1e-5)
    assert method.net.read[0].tolist() == [[3, 1, 2, 1], [1, 3, 3, 3]]


def test_a_prompt_is_read_and_never_masked():
    torch.manual_seed(0)
    method = LLaDA(SPEC, net=Fixed(), prompt=2)
    ids = torch.randint(3, (500, 5))
    method.loss(Tokens(ids))
    read = method.net.read[0]
    assert torch.equal(read[:, :2], ids[:, 1:3])
    assert (read[:, 2:] == 3).any(0).all()


def test_fine_tuning_costs_the_response_alone():
    torch.manual_seed(0)
    method = LLaDA(SPEC, net=Fixed(), prompt=3, margin=1e-4)
    ids = torch.zeros(20_000, 5, dtype=torch.long)
    assert float(method.loss(Tokens(ids)).detach()) == pytest.approx(math.log(2), rel=0.1)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.prompt=4"):
        LLaDA(SPEC, net=Fixed(), prompt=4)

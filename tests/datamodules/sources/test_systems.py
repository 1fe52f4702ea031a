"""Populations satisfy what is known of them, and survivors pass as often as the law says."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.systems import Systems


def test_laws_satisfy_the_knowledge():
    theta = torch.tensor([0.6, 0.9], dtype=torch.float64)
    epsilon = torch.tensor([1e-4, 0.02], dtype=torch.float64)
    points, weight = Systems.laws(theta, epsilon, torch.Generator().manual_seed(0))
    torch.testing.assert_close((weight * (points <= epsilon[:, None])).sum(1), theta)
    torch.testing.assert_close(weight.sum(1), torch.ones(2).double())
    assert (points > 0).all()
    assert (points < 1).all()


def test_survivors_pass_as_often_as_their_law_says():
    source = Systems(populations=3, systems=20_000, exposure=1.0, horizon=1.0)
    records = source.load()
    x, y = (records.columns[name][records.splits["test"]] for name in ("x", "y"))
    draw = generator(0, "systems")
    theta = 0.5 + 0.45 * torch.rand(3, generator=draw, dtype=torch.float64)
    epsilon = x[::20_000, 4].double()
    torch.rand(3, generator=draw, dtype=torch.float64)
    points, weight = source.laws(theta, epsilon, draw)
    past = records.columns["x"][records.splits["train"]]
    k = torch.bincount(past[:, 0].long(), past[:, 2].double())[::20_001]
    survivors = weight * (1 - points) ** k[:, None]
    want = (survivors * (1 - points) ** x[::20_000, 2:3].double()).sum(1) / survivors.sum(1)
    torch.testing.assert_close(y.double().view(3, -1).mean(1), want, rtol=0, atol=4 * 0.5 / 20_000**0.5)
    assert (records.columns["y"][records.splits["train"]] == 1).all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"data\.systems=0"):
        Systems(systems=0)
    with pytest.raises(UserError, match=r"data\.horizon=0"):
        Systems(horizon=0)

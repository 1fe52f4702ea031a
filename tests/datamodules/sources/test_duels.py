"""Duels' law: preferences are those of its table, which no rewards explain."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.bandit import Bandit
from datamodules.sources.duels import Duels


def test_preferences_are_those_of_the_world():
    records = Duels(prompts=1, answers=3, scale=1.0, temperature=1.5, cycles=2.0, train=60000).load()
    world, columns = records.world, records.columns
    for a, b in ((0, 1), (0, 2), (1, 2)):
        of = lambda one, other: int(((columns["chosen"] == one) & (columns["rejected"] == other)).sum())  # noqa: E731
        wins, losses = of(a, b), of(b, a)
        p = float(world.wins[0, a, b])
        assert wins / (wins + losses) == pytest.approx(p, abs=4 * (p * (1 - p) / (wins + losses)) ** 0.5)


def test_logits_are_differences_of_rewards_and_circles_of_the_stated_size():
    world = Duels(prompts=40, answers=40, temperature=2.0, cycles=0.7).world()
    torch.testing.assert_close(world.wins + world.wins.mT, torch.ones(40, 40, 40, dtype=torch.float64))
    circles = torch.logit(world.wins) - (world.reward[:, :, None] - world.reward[:, None]) / 2.0
    above = circles[:, *torch.triu_indices(40, 40, 1)]
    assert float(above.std()) == pytest.approx(0.7, rel=0.02)
    assert float(above.mean()) == pytest.approx(0, abs=0.02)


def test_who_writes_the_answers_changes_nothing_else():
    one, other = Duels(sharpness=0.0).world(), Duels(sharpness=2.0, tilt=-1.0).world()
    assert torch.equal(one.preference, other.preference)
    assert torch.equal(one.reward, Bandit().world().reward)
    assert not torch.allclose(one.behaviour, other.behaviour)


def test_without_circles_it_is_refused():
    with pytest.raises(UserError, match=r"data\.cycles=0"):
        Duels(cycles=0)

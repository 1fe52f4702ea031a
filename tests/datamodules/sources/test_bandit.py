"""The bandit's law: preferences are those of its rewards, answers those of its behaviour."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.sources.bandit import Bandit


def test_preferences_follow_bradley_and_terry():
    records = Bandit(prompts=1, answers=3, scale=2.0, temperature=1.5, train=60000).load()
    world, columns = records.world, records.columns
    for a, b in ((0, 1), (0, 2), (1, 2)):
        of = lambda one, other: int(((columns["chosen"] == one) & (columns["rejected"] == other)).sum())  # noqa: E731
        wins, losses = of(a, b), of(b, a)
        p = float(torch.sigmoid((world.reward[0, a] - world.reward[0, b]) / 1.5))
        assert wins / (wins + losses) == pytest.approx(p, abs=4 * (p * (1 - p) / (wins + losses)) ** 0.5)


def test_the_first_answer_is_from_the_behaviour_and_unseen_ones_never_come():
    records = Bandit(prompts=2, answers=6, unseen=0.5, train=20000).load()
    mu = records.world.behaviour
    assert ((mu > 0).sum(1) == 3).all()
    torch.testing.assert_close(mu.sum(1), torch.ones(2, dtype=torch.float64))
    for name in ("chosen", "rejected"):
        assert (mu[records.columns["prompt"], records.columns[name]] > 0).all()
    assert (records.columns["chosen"] != records.columns["rejected"]).all()
    # Of both answers of a pair: the first is from mu, the second from mu without the first.
    second = (mu[:, :, None] * mu[:, None] / (1 - mu[:, :, None])).masked_fill(torch.eye(6, dtype=torch.bool), 0).sum(1)
    for prompt in range(2):
        rows = records.columns["prompt"] == prompt
        both = torch.stack([records.columns[name][rows] for name in ("chosen", "rejected")])
        share = torch.bincount(both.flatten(), minlength=6) / both.numel()
        torch.testing.assert_close(share.double(), (mu[prompt] + second[prompt]) / 2, atol=0.01, rtol=0)


def test_tilt_below_zero_makes_good_answers_rare():
    mean = lambda tilt: float(  # noqa: E731
        (Bandit(tilt=tilt).world().behaviour * Bandit(tilt=tilt).world().reward).sum(1).mean()
    )
    assert mean(-2.0) < mean(0.0) < mean(2.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"answers": 1},
        {"prompts": 20},
        {"scale": 0},
        {"temperature": 0},
        {"sharpness": -1},
        {"unseen": 1.0},
        {"train": 0},
    ],
)
def test_values_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match=f"data.{next(iter(wrong))}="):
        Bandit(**wrong)


def test_attributes_are_independent_and_the_judge_says_which_one_counts():
    worlds = {judge: Bandit(attributes=3, judge=judge, prompts=64, answers=64).world() for judge in (None, 0, 1, 2)}
    alone = Bandit(prompts=64, answers=64).world()
    assert torch.equal(worlds[0].reward, alone.reward)
    for judge in range(3):
        assert torch.equal(worlds[judge].reward, worlds[None].attributes[judge])
        assert torch.equal(worlds[judge].behaviour, alone.behaviour)
    torch.testing.assert_close(worlds[None].reward, worlds[None].attributes.mean(0))
    correlation = torch.corrcoef(worlds[None].attributes.flatten(1)) - torch.eye(3)
    assert float(correlation.abs().max()) < 0.07  # of 4096 values: four standard deviations
    for settings in ({"attributes": 0}, {"attributes": 2, "judge": 2}):
        with pytest.raises(UserError, match="attributes"):
            Bandit(**settings)

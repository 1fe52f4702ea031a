"""Acquisition: uncertainties and entropies by definition, greedy choices by a loop, and no label that was not asked."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import special, stats

from compendium.errors import UserError
from datamodules.batches import FeaturedPairs
from datamodules.presentations.featured_pairs import FeaturedPairData
from datamodules.sources.clustered_preferences import ClusteredPreferences
from modules.preference.bal_pm import BalPM
from tests.modules.test_contract import planned, trained

NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def method(**settings) -> tuple[BalPM, FeaturedPairs]:
    data = FeaturedPairData(ClusteredPreferences(train=60, validation=5, test=5, spread=0.5, pairs=2))
    torch.manual_seed(0)
    made = BalPM(data.spec, net=NET, **{"members": 3, "acquire": 6, "labels": 18, "neighbours": 5, **settings})
    with torch.no_grad():
        for weight in made.parameters():
            weight.mul_(3)
    return made, data.present(data.take(data.columns, data.rows["train"], "train"), "train")


def test_uncertainties_are_those_of_the_members_predictions():
    made, pool = method()
    with torch.no_grad():
        total, bald = made.uncertainties(pool.pairs)
        rewards = made.net(pool.pairs.flatten(0, 1))[..., 0].view(3, 60, 2).double()
        logit = made.preference_logit(pool.pairs)
    p = torch.sigmoid(rewards[..., 0] - rewards[..., 1]).numpy()
    both = stats.entropy([p.mean(0), 1 - p.mean(0)])
    torch.testing.assert_close(total.double(), torch.from_numpy(both), atol=1e-5, rtol=1e-5)
    each = stats.entropy([p, 1 - p]).mean(0)
    torch.testing.assert_close(bald.double(), torch.from_numpy(both - each), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logit.double(), torch.from_numpy(special.logit(p.mean(0))), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("weight", "dimension"), [(0.0, 1.0), (0.5, 2.0), (100.0, 1.0)])
def test_pairs_are_chosen_one_after_the_other(weight, dimension):
    made, pool = method(weight=weight, dimension=dimension)
    uncertainty = torch.rand(60, generator=torch.Generator().manual_seed(1))
    made.acquired = torch.arange(18).where(torch.arange(18) < 7, -1)
    made.pairs[:7] = pool.pairs[:7]
    free = torch.arange(60) >= 7
    with torch.no_grad():
        found = made.spread(pool.prompt, uncertainty, free, 6).tolist()
    taken, chosen = list(range(7)), []
    distance = torch.cdist(pool.prompt.double(), pool.prompt.double())
    for _ in range(6):
        free = [row for row in range(60) if row not in taken]
        h = {}
        for row in free:
            reach = float(distance[row].sort().values[5])
            near = sum(float(distance[row, other]) <= reach + 1e-6 for other in taken)
            h[row] = math.log(2 * reach + 1e-4) - float(special.digamma(near + 1)) / dimension
        mean = sum(h.values()) / len(h)
        spread = (sum((value - mean) ** 2 for value in h.values()) / len(h)) ** 0.5
        best = max(free, key=lambda row: float(uncertainty[row]) + weight * (h[row] - mean) / spread)
        taken.append(best)
        chosen.append(best)
    assert found == chosen
    if weight == 0:
        assert found == (7 + uncertainty[7:].topk(6).indices).tolist()


@pytest.mark.parametrize("policy", ["random", "uncertainty", "bald", "bal_pm"])
def test_it_asks_for_as_many_as_it_may_and_learns_from_no_others(policy):
    made, pool = method(policy=policy)
    counts = []
    for _ in range(5):
        made.ask(pool)
        counts.append(len(made.acquired_rows()))
    assert counts == [6, 12, 18, 18, 18]
    rows = made.acquired_rows()
    assert len(rows.unique()) == 18
    torch.testing.assert_close(made.pairs, pool.pairs[[pool.row.tolist().index(row) for row in rows.tolist()]])
    with torch.no_grad():
        rewards = made.net(made.pairs.flatten(0, 1))[..., 0].view(3, 18, 2)
        expected = (1 + (rewards[..., 1] - rewards[..., 0]).exp()).log().mean(1).sum()
        # What is in the pool, and was not asked for, does not matter.
        torch.testing.assert_close(made.loss(pool._replace(pairs=pool.pairs.flip(1))), expected)


def test_its_schedule_is_kept_in_a_run(tmp_path):
    parts = trained(planned(
        "preference/bal_pm", tmp_path, "data.train=100", "datamodule.batch_size=100", "trainer.max_epochs=7",
        "model.every=3", "model.acquire=10", "model.labels=25", "trainer.check_val_every_n_epoch=100",
    ))  # fmt: skip
    assert len(parts.method.acquired_rows()) == 25  # 10 before the steps 0 and 3 each, 5 before the step 6


@pytest.mark.parametrize(
    "settings",
    [{"policy": "other"}, {"members": 1}, {"acquire": 0}, {"labels": 0}, {"every": 0}, {"weight": -1.0},
     {"neighbours": 0}, {"dimension": 0.0}],
)  # fmt: skip
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        method(**settings)

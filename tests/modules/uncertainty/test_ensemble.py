"""A deep ensemble against members that are trained one after the other."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.networks.mlp import MLP
from modules.networks.stacked import member
from modules.uncertainty.ensemble import DeepEnsemble, poisson_weights

SPEC = DataSpec("d", "vector", (6,), target="class", classes=("a", "b", "c"), sizes={"train": 64})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 16, "depth": 2}


@pytest.mark.parametrize("bootstrap", [False, True])
def test_training_it_is_training_each_member_by_itself(bootstrap):
    torch.manual_seed(0)
    method = DeepEnsemble(SPEC, members=4, bootstrap=bootstrap, net=NET)
    single = [MLP((6,), (3,), width=16, depth=2) for _ in range(4)]
    for place, net in enumerate(single):
        net.load_state_dict(member(method.net, place))
    batches = [Labelled(torch.randn(32, 6), torch.randint(3, (32,))) for _ in range(30)]
    optimizer = torch.optim.AdamW(method.parameters(), lr=3e-3)
    for batch in batches:
        optimizer.zero_grad()
        method.loss(batch).backward()
        optimizer.step()
    for place, net in enumerate(single):
        own = torch.optim.AdamW(net.parameters(), lr=3e-3)
        for batch in batches:
            own.zero_grad()
            losses = F.cross_entropy(net(batch.x), batch.y, reduction="none")
            weights = poisson_weights(batch.x, 4)[place] if bootstrap else 1.0
            (weights * losses).mean().backward()
            own.step()
    x = batches[0].x
    alone = torch.stack([net(x).log_softmax(1) for net in single])
    torch.testing.assert_close(method.predict_members(x), alone, rtol=0, atol=1e-5)
    mean = alone.exp().mean(0).log()
    torch.testing.assert_close(method.predict_log_proba(x), mean, rtol=0, atol=1e-5)
    spread = (alone.exp() - mean.exp()).square().mean(0)
    torch.testing.assert_close(method.epistemic_variance(x), spread, rtol=0, atol=1e-5)


def test_members_begin_with_weights_of_their_own():
    method = DeepEnsemble(SPEC, members=3, net=NET)
    first = method.net.net.first.weight
    assert first.shape == (3, 16, 6)
    assert not torch.equal(first[0], first[1])


def test_weights_of_the_bootstrap_follow_poissons_law_and_stay_with_the_record():
    torch.manual_seed(0)
    x = torch.randn(50_000, 3)
    weights = poisson_weights(x, 2)
    for count, want in enumerate([math.exp(-1), math.exp(-1), math.exp(-1) / 2, math.exp(-1) / 6]):
        error = 5 * math.sqrt(want * (1 - want) / 50_000)
        for own in weights:
            assert float((own == count).float().mean()) == pytest.approx(want, abs=error)
    assert abs(float(torch.corrcoef(weights)[0, 1])) < 5 / math.sqrt(50_000)
    order = torch.randperm(len(x))
    assert torch.equal(poisson_weights(x[order], 2), weights[:, order])


def test_bad_input():
    with pytest.raises(UserError, match=r"members=0"):
        DeepEnsemble(SPEC, members=0, net=NET)
    with pytest.raises(UserError, match="regression_ensemble"):
        DeepEnsemble(SPEC.but(target="real", classes=()), net=NET)
    with pytest.raises(UserError, match="give net as a config"):
        DeepEnsemble(SPEC, net=MLP((6,), (3,)))

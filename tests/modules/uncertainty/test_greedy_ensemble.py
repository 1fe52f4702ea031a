"""The greedy ensemble: its term by hand, its turns, and the limit in which it is a plain ensemble."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR

from compendium.compose import compose
from compendium.engine import build
from compendium.errors import UserError
from compendium.run import Run
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.greedy_ensemble import GreedyEnsemble, begin_anew, repulsion

SPEC = DataSpec("d", "vector", (3,), target="class", classes=("a", "b"), sizes={"train": 64})
NET = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}


def test_the_term_by_hand_and_its_direction():
    own = torch.tensor([[0.5, 0.5], [1.0, 0.0]], dtype=torch.float64, requires_grad=True)
    others = torch.tensor([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [1.0, 0.0]]], dtype=torch.float64)
    # Distances: (0 + 2) / 2 = 1 and (0.5 + 0) / 2 = 0.25.
    value = repulsion(own, others, 2.0)
    assert float(value.detach()) == pytest.approx(math.log(math.exp(-2.0) + math.exp(-0.5)))
    # A step down it leads away from the nearest one on the whole.
    value.backward()
    moved = own.detach() - 0.1 * own.grad
    assert repulsion(moved, others, 2.0) < value.detach()
    # With a large weight only the nearest predecessor counts.
    near = repulsion(own.detach(), others, 1e3)
    assert float(near) == pytest.approx(-1e3 * 0.25)


def test_the_loss_is_that_of_the_member_whose_turn_it_is():
    torch.manual_seed(0)
    method = GreedyEnsemble(SPEC, members=4, diversity=2.0, width=3.0, net=NET)
    method.center.fill_(1.0)
    method.spread.fill_(0.5)
    batch = Labelled(torch.randn(16, 3), torch.randint(2, (16,)))
    assert set(method.loss(batch)) == {"cross_entropy"}
    method.begun.fill_(3)
    torch.manual_seed(1)
    terms = method.loss(batch)
    torch.manual_seed(1)
    wide = 1 + 3 * 0.5 * torch.randn(16, 3)
    p = [net(wide).softmax(1) for net in method.members]
    weights = [-(2 / 4) * (p[2] - p[j]).square().sum(1).mean() for j in range(2)]
    torch.testing.assert_close(terms["diversity"], torch.stack(weights).logsumexp(0))
    torch.testing.assert_close(terms["cross_entropy"], F.cross_entropy(method.members[2](batch.x), batch.y))
    sum(terms.values()).backward()
    reached = [all(p.grad is not None for p in net.parameters()) for net in method.members]
    assert reached == [False, False, True, False]
    single = torch.stack([net(batch.x).log_softmax(1) for net in list(method.members)[:3]])
    torch.testing.assert_close(method.predict_members(batch.x), single)


def test_each_member_trains_in_its_turn_with_the_whole_schedule(tmp_path):
    choices = ["model=uncertainty/greedy_ensemble", "model.members=2", "net.width=8", "net.depth=1", "callbacks=bare"]
    more = ["trainer=cpu", "trainer.max_epochs=2", "trainer.limit_train_batches=3", "logger=none", f"runs={tmp_path}"]
    run = Run.plan(compose([*choices, *more]))
    run.freeze()
    parts = build(run)
    parts.logger.rewind(0)
    method, rates, states = parts.method, [], []
    step = type(method).training_step

    def watched(batch, batch_idx):
        rates.append(parts.trainer.optimizers[0].param_groups[0]["lr"])
        states.append([net.last.weight.detach().clone() for net in method.members])
        return step(method, batch, batch_idx)

    method.training_step = watched
    parts.trainer.fit(method, parts.data)
    states.append([net.last.weight.detach().clone() for net in method.members])
    assert rates[:3] == pytest.approx(rates[3:])
    moved = [[not torch.equal(a, b) for a, b in zip(*pair, strict=True)] for pair in pairwise(states)]
    assert [row[0] for row in moved] == [True] * 3 + [False] * 3
    assert [row[1] for row in moved] == [False] * 3 + [True] * 3
    x = parts.data.records("train").x
    torch.testing.assert_close(method.center, x.mean(0))


def test_bad_input():
    with pytest.raises(UserError, match=r"diversity=-1"):
        GreedyEnsemble(SPEC, diversity=-1, net=NET)
    with pytest.raises(UserError, match="config of a network"):
        GreedyEnsemble(SPEC, net=nn.Linear(3, 2))
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    with pytest.raises(UserError, match="begin anew"):
        begin_anew(MultiStepLR(optimizer, [1]), 2)
    schedule = LambdaLR(optimizer, lambda step: 1 / (1 + step))
    begin_anew(schedule, 3)
    assert [schedule.lr_lambdas[0](step) for step in range(5)] == [1, 1 / 2, 1 / 3, 1, 1 / 2]

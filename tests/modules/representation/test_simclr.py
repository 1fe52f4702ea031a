"""NT-Xent against an independent implementation and values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch
from pytorch_metric_learning.losses import NTXentLoss
from torch import nn

from compendium.errors import UserError
from datamodules.batches import TwoViews
from datamodules.spec import DataSpec
from modules.representation import joint_embedding
from modules.representation.joint_embedding import JointEmbedding
from modules.representation.simclr import SimCLR

SPEC = DataSpec(name="plane", kind="vector", shape=(2,))


def bare(**arguments) -> SimCLR:
    """The loss on the records themselves: no network, no projection."""
    return SimCLR(SPEC, net=nn.Identity(), projection=[2], **arguments)


def test_four_anchors_by_hand():
    """Two records along the axes, seen without noise: s_ip = 1, both negatives at right angles."""
    views = 3.0 * torch.eye(2, dtype=torch.float64)
    tau = 0.5
    expected = math.log(math.exp(1 / tau) + 2) - 1 / tau
    assert bare(temperature=tau).loss(TwoViews(views, 2.0 * views)).item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 4.0])
def test_an_independent_implementation_agrees(temperature):
    draw = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 7, 5, generator=draw, dtype=torch.float64)
    labels = torch.arange(7).repeat(2)
    expected = NTXentLoss(temperature=temperature)(torch.cat([a, b]), labels)
    torch.testing.assert_close(bare(temperature=temperature).agreement(a, b), expected)


def test_views_that_tell_nothing_cost_the_log_of_the_choices():
    same = torch.ones(6, 2, dtype=torch.float64)
    assert bare().agreement(same, same).item() == pytest.approx(math.log(11), rel=1e-12)


def test_the_representation_is_the_network_before_its_last_layer():
    net = {"_target_": "modules.networks.mlp.MLP", "width": 8, "depth": 1}
    method = SimCLR(SPEC, net=net, projection=[6, 4, 3])
    x = torch.randn(5, 2)
    h = torch.nn.functional.silu(method.net.first(x))
    torch.testing.assert_close(method.embed(x), h)
    first, second = (layer[1] for layer in method.projector)
    expected = second(first(method.net.last(h).relu()).relu())
    torch.testing.assert_close(method.projector(method.net(x)), expected)


def test_two_processes_have_the_loss_and_the_gradients_of_one(monkeypatch):
    """Each process gathers the other's rows; the mean of their gradients, as DDP takes it, is that of one process."""
    shares = torch.randn(2, 2, 4, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(1))  # process, view
    weight = torch.randn(2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(2))

    def loss_of(a, b):
        method = bare()
        method.net = nn.Linear(2, 2, bias=False).double()
        method.net.weight = nn.Parameter(weight.clone())
        loss = method.loss(TwoViews(a, b))
        loss.backward()
        return loss.detach(), method.net.weight.grad

    whole = loss_of(*(torch.cat([shares[0, view], shares[1, view]]) for view in range(2)))
    monkeypatch.setattr(joint_embedding, "distributed", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    each = []
    for rank in range(2):
        views = iter(range(2))

        def all_gather(parts, rows, views=views):
            view = next(views)
            for part, share in zip(parts, shares, strict=True):
                part.copy_(share[view] @ weight.T)

        monkeypatch.setattr(torch.distributed, "get_rank", lambda rank=rank: rank)
        monkeypatch.setattr(torch.distributed, "all_gather", all_gather)
        each.append(loss_of(*shares[rank]))
    for loss, _ in each:
        torch.testing.assert_close(loss, whole[0])
    torch.testing.assert_close((each[0][1] + each[1][1]) / 2, whole[1])


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.temperature=0"):
        bare(temperature=0.0)
    with pytest.raises(UserError, match=r"model\.projection"):
        SimCLR(SPEC, net=nn.Identity(), projection=[])
    with pytest.raises(UserError, match="no negatives"):
        bare().loss(TwoViews(torch.ones(1, 2), torch.ones(1, 2)))
    with pytest.raises(TypeError, match="agreement"):
        JointEmbedding(SPEC, [2], net=nn.Identity())

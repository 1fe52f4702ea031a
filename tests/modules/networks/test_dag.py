"""Networks on graphs: paths counted one by one, variances measured, and known rules for chains."""

from __future__ import annotations

import itertools

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from modules.networks.dag import DAG, cubes, drawn, lost_nodes, parsed
from modules.supervised.classifier import SoftmaxClassifier


def paths(edges):
    """The kinds of the edges of every path from the first node to the last, all subsets of nodes tried."""
    last = len(edges)
    for size in range(last):
        for between in itertools.combinations(range(1, last), size):
            nodes = (0, *between, last)
            kinds = [edges[b - 1][a] for a, b in itertools.pairwise(nodes)]
            if all(kinds):
                yield kinds


@pytest.mark.parametrize("draw", range(12))
def test_the_sum_over_paths_is_that_of_all_of_them(draw):
    edges = drawn(6, draw)
    assert cubes(edges) == sum((1 + sum(kind == 2 for kind in kinds)) ** 3 for kinds in paths(edges))
    assert not lost_nodes(edges)
    assert edges == drawn(6, draw)


def test_drawn_graphs_differ():
    assert len({str(drawn(5, draw)) for draw in range(20)}) > 15


@pytest.mark.parametrize("depth", [1, 2, 5, 9])
def test_a_chain_has_the_rule_of_a_perceptron(depth):
    """L hidden layers: L^(-3/2); with convolutions of 3 x 3 a third of it."""
    code = "-".join("0" * node + "2" for node in range(depth - 1)) if depth > 1 else None
    edges = parsed(code) if code else []
    assert cubes(edges) ** -0.5 == pytest.approx(depth**-1.5)
    if code:
        assert DAG((1, 4, 4), (3,), graph=code, kernel=3).rate_scale == pytest.approx(depth**-1.5 / 3)
        assert DAG((1, 4, 4), (3,), graph=code, scale_rate=False).rate_scale == 1


def test_two_paths_by_hand():
    """0 -> 1 -> 2 by layers, 0 -> 2 by a skip: 3 ReLUs and 1, 27 + 1."""
    assert cubes(parsed("2-12")) == 28


@pytest.mark.parametrize("code", ["2-02-002", "2-22-222", "1-21-202", "2-12-112"])
def test_every_node_has_the_variance_of_the_first(code):
    torch.manual_seed(0)
    x = torch.randn(8, 50)
    powers = torch.stack(
        [
            torch.stack([value.square().mean() for value in DAG((50,), (3,), graph=code, width=512).values(x)])
            for _ in range(12)
        ]
    ).mean(0)
    torch.testing.assert_close(powers, x.square().mean().expand(4), rtol=0.1, atol=0)


def test_convolutions_keep_it_inside_the_picture():
    torch.manual_seed(0)
    values = DAG((4, 9, 9), (3,), graph="2-22", width=256, kernel=3).values(torch.randn(8, 4, 9, 9))
    powers = torch.stack([value[..., 3:6, 3:6].square().mean() for value in values])
    torch.testing.assert_close(powers, torch.ones(3), rtol=0.15, atol=0)


def test_the_graph_is_what_is_computed():
    """1-21 written out: z1 = z0, z2 = (W relu(z0)) + z1 / sqrt 2."""
    net, x = DAG((5,), (2, 2), graph="1-21", width=7).double(), torch.randn(4, 5, dtype=torch.float64)
    first = x @ net.first.weight.T
    expected = first.relu() @ net.layers["0_2"].weight.T + first / 2**0.5
    torch.testing.assert_close(net.values(x)[-1], expected)
    torch.testing.assert_close(net(x), (expected.relu() @ net.last.weight.T).view(4, 2, 2))
    assert net.embed(x).shape == (4, 7)


def test_the_optimizer_gets_the_rate_that_the_graph_asks_for():
    data = LabelledData(Digits())
    for net, expected in (("dag", 0.1 * 28**-0.5), ("linear", 0.1)):
        target = {"dag": "modules.networks.dag.DAG", "linear": "modules.networks.linear.Linear"}[net]
        node = {"_target_": target} | ({"graph": "2-12"} if net == "dag" else {})
        optimizer = {"_target_": "torch.optim.SGD", "lr": 0.1}
        method = SoftmaxClassifier(data.spec, net=node, optimizer=optimizer)
        made = method.descent(method.parameters())
        assert [group["lr"] for group in made.param_groups] == pytest.approx([expected])
        assert len(made.param_groups[0]["params"]) == len(list(method.parameters()))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"graph": "2-2"}, "no graph"),
        ({"graph": "3"}, "no graph"),
        ({"graph": "2-00-220"}, "node 2 is on no path"),
        ({"graph": "2-20"}, "node 1 is on no path"),
        ({"graph": None, "nodes": 1}, r"nodes=1"),
        ({"kernel": 2}, r"kernel=2"),
    ],
)
def test_what_is_no_network_is_named(arguments, message):
    with pytest.raises(UserError, match=message):
        DAG((1, 8, 8), (3,), **arguments)

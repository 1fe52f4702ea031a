"""What an optimizer sees of layers, against automatic differentiation record by record."""

from __future__ import annotations

import io

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.optimization import factored
from modules.optimization.factored import Layer
from modules.optimization.kfac import KFAC
from modules.optimization.mkor import MKOR
from tests.modules.optimization.contract import keeps_the_contract
from tests.modules.optimization.layers import batches, network, train, what_each_record_sees

BOTH = [MKOR, KFAC]


def seen(kind, net, x, y, parts=1):
    optimizer = kind(net.parameters())
    optimizer.watch(net)
    for some_x, some_y in zip(x.chunk(parts), y.chunk(parts), strict=True):
        (F.cross_entropy(net(some_x), some_y) / parts).backward()
    return list(optimizer._seen().values())


@pytest.mark.parametrize("parts", [1, 4])
def test_means_and_second_moments_are_those_of_each_record(parts):
    net, ((x, y),) = network(), batches(1)
    expected = what_each_record_sees(net, x, y)
    for (a, g), (inputs, slopes) in zip(seen(MKOR, net, x, y, parts), expected, strict=True):
        torch.testing.assert_close(a, inputs.mean(0))
        torch.testing.assert_close(g, slopes.mean(0))
    for (a, g), (inputs, slopes) in zip(seen(KFAC, network(), x, y, parts), expected, strict=True):
        torch.testing.assert_close(a, inputs.T @ inputs / len(x))
        torch.testing.assert_close(g, slopes.T @ slopes / len(x))


def test_a_convolution_is_a_layer_over_places():
    """The mean gradient is the mean of outer products: with one row, g a^T is the gradient itself."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2, padding=1)).double()
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64)  # of which the kernel has one place
    optimizer = MKOR(net.parameters())
    optimizer.watch(net)
    net(x).sin().sum().backward()
    ((a, g),) = optimizer._seen().values()
    torch.testing.assert_close(torch.outer(g, a[:-1]).view(3, 2, 3, 3), net[0].weight.grad)
    torch.testing.assert_close(g * a[-1], net[0].bias.grad)


def test_positions_of_a_text_are_rows():
    layer = Layer(nn.Linear(3, 2), True, 1, 0)
    module, x = nn.Linear(3, 2), torch.arange(24.0).view(2, 4, 3)
    layer.takes(module, x)
    layer.gives(module, torch.ones(2, 4, 2))
    assert layer.rows == 8
    torch.testing.assert_close(layer.seen()[0], torch.tensor([10.5, 11.5, 12.5, 1.0]))
    assert layer.seen()[1].tolist() == [8, 8]


@pytest.mark.parametrize("kind", BOTH)
def test_nothing_is_seen_in_evaluation_or_without_gradients(kind):
    net, ((x, _),) = network(), batches(1)
    optimizer = kind(net.parameters())
    optimizer.watch(net)
    with torch.no_grad():
        net(x)
    net.eval()(x).sum().backward()
    assert optimizer._seen() == {}


@pytest.mark.parametrize("kind", BOTH)
def test_only_where_it_is_due(kind):
    net = network()
    optimizer = kind(net.parameters(), every=3)
    optimizer.watch(net)
    changes = []
    for batch in batches(7):
        before = optimizer.state[net[0].weight].get("left")
        train(optimizer, net, [batch])
        after = optimizer.state[net[0].weight]["left"]
        changes.append(before is None or not torch.equal(before, after))
    assert changes == [True, False, False, True, False, False, True]


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("backend", ["momentum", "adam"])
def test_continues_from_its_state_to_the_same_bits(kind, backend):
    data, nets = batches(9, dtype=torch.float32), [network(torch.float32) for _ in range(2)]
    optimizers = []
    for net in nets:
        optimizers.append(kind(net.parameters(), lr=0.05, backend=backend, every=2))
        optimizers[-1].watch(net)
    train(optimizers[0], nets[0], data)
    train(optimizers[1], nets[1], data[:5])
    file = io.BytesIO()
    torch.save({"net": nets[1].state_dict(), "optimizer": optimizers[1].state_dict()}, file)
    file.seek(0)
    kept, again = torch.load(file, weights_only=True), network(torch.float32)
    again.load_state_dict(kept["net"])
    second = kind(again.parameters())
    second.load_state_dict(kept["optimizer"])
    second.watch(again)
    train(second, again, data[5:])
    for one, other in zip(nets[0].parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("kind", BOTH)
def test_accumulated_batches_are_one_batch(kind):
    data, nets = batches(5), [network(), network()]
    for net, parts in zip(nets, (1, 4), strict=True):
        optimizer = kind(net.parameters(), every=1)
        optimizer.watch(net)
        train(optimizer, net, data, parts)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("kind", BOTH)
def test_a_layer_without_a_gradient_waits(kind):
    net, data = network(), batches(4)
    optimizer = kind(net.parameters(), every=1)
    optimizer.watch(net)
    train(optimizer, net, data[:2])
    kept = dict(optimizer.state[net[0].weight])
    train(optimizer, net[2:], [(x[:, :4], y) for x, y in data[2:]])
    assert all(value is kept[name] for name, value in optimizer.state[net[0].weight].items())
    assert optimizer.state[net[2].weight]["step"] == 4


@pytest.mark.parametrize("kind", BOTH)
def test_over_processes_what_was_seen_is_averaged(kind, monkeypatch):
    """As if a second process had seen the other half of the batch: its sums are handed in."""
    net, ((x, y),) = network(), batches(1)
    whole = seen(kind, net, x, y)
    halves = [seen(kind, network(), *half) for half in ((x[:4], y[:4]), (x[4:], y[4:]))]
    other = torch.cat([part.flatten() for pair in halves[1] for part in pair])
    monkeypatch.setattr(factored, "distributed", lambda: True)
    monkeypatch.setattr(factored, "sum_of_all", lambda value: value + other)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    for got, expected in zip(seen(kind, network(), x[:4], y[:4]), whole, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("backend", ["momentum", "adam"])
def test_unwatched_it_is_its_backend(kind, backend):
    data, nets = batches(8), [network(), network()]
    train(kind(nets[0].parameters(), lr=0.05, backend=backend), nets[0], data)
    sgd = torch.optim.SGD(nets[1].parameters(), lr=0.05, momentum=0.9)
    train(sgd if backend == "momentum" else torch.optim.Adam(nets[1].parameters(), lr=0.05), nets[1], data)
    for one, other in zip(*(net.parameters() for net in nets), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    keeps_the_contract(lambda parameters: kind(parameters, lr=0.01, backend=backend))


def test_weights_in_bfloat16_keep_a_precise_state():
    net = network(torch.bfloat16)
    optimizer = MKOR(net.parameters(), every=1)
    optimizer.watch(net)
    train(optimizer, net, batches(3, dtype=torch.bfloat16))
    assert {v.dtype for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)} == {torch.float32}


@pytest.mark.parametrize("kind", BOTH)
def test_values_out_of_range_are_refused(kind):
    for arguments, message in (
        ({"lr": -1}, r"optimizer\.lr=-1"),
        ({"backend": "lamb"}, r"optimizer\.backend=lamb"),
        ({"every": 0}, r"optimizer\.every=0"),
        ({"gamma": 1.0}, r"optimizer\.gamma=1\.0"),
    ):
        with pytest.raises(UserError, match=message):
            kind(network().parameters(), **arguments)
    with pytest.raises(UserError, match="no linear or convolutional layer"):
        kind([nn.Parameter(torch.ones(2))]).watch(network())

"""DeepZero against gradients that are known, its estimators written out, and itself with every short cut left out."""

from __future__ import annotations

import copy

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from modules.networks.mlp import MLP
from modules.networks.transformer import Transformer
from modules.optimization.asking import Evaluations
from modules.optimization.deepzero import DeepZero, Memory
from tests.modules.optimization.test_soap import weights
from tests.modules.test_contract import planned, trained

SHAPES = [(4, 3), (5,), (2, 3)]
TABLE = ["data=wine", "net=mlp", "net.width=6", "net.depth=3", "optimizer=deepzero"]


def quartic(parameters):
    return torch.stack([((i + 1) * p.square() / 2 + p**3).sum() for i, p in enumerate(parameters)]).sum()


def estimated(parameters, **arguments):
    """The gradient of a step: what it moves by, of SGD at a rate of 1 without momentum."""
    before = [p.detach().clone() for p in parameters]
    optimizer = DeepZero(parameters, lr=1.0, momentum=0.0, weight_decay=0.0, **arguments)
    optimizer.step(lambda: quartic(parameters))
    return [one - p.detach() for one, p in zip(before, parameters, strict=True)], before, optimizer


def test_by_coordinates_it_is_the_forward_difference_of_each_entry():
    """Of a x^2 / 2 + x^3: a x + 3 x^2 + mu (a / 2 + 3 x) + mu^2."""
    mu = 0.01
    found, start, optimizer = estimated(weights(SHAPES), sparsity=0.0, mu=mu)
    for i, (gradient, x) in enumerate(zip(found, start, strict=True)):
        expected = (i + 1) * x + 3 * x**2 + mu * ((i + 1) / 2 + 3 * x) + mu**2
        torch.testing.assert_close(gradient, expected, rtol=1e-10, atol=1e-10)
    assert optimizer.param_groups[0]["queries"] == 12 + 5 + 6 + 1


def test_sparse_steps_move_the_drawn_entries_alone_and_biases_whole():
    found, start, optimizer = estimated(weights(SHAPES), sparsity=0.5, mu=0.01, pruning="uniform", seed=3)
    dense, _, _ = estimated(weights(SHAPES), sparsity=0.0, mu=0.01)
    for place, (gradient, whole) in enumerate(zip(found, dense, strict=True)):
        kept = {0: 6, 1: 5, 2: 3}[place]
        chosen = torch.randperm(whole.numel(), generator=generator(3, "mask", 0, place))[:kept]
        expected = torch.zeros_like(whole)
        expected.view(-1)[chosen] = whole.view(-1)[chosen]
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)
    assert optimizer.param_groups[0]["queries"] == 6 + 5 + 3 + 1


def test_along_directions_it_is_the_mean_of_their_slopes():
    mu, count = 0.01, 7
    found, start, _ = estimated(weights(SHAPES), estimator="rge", queries=count, mu=mu, seed=2, copies=4)
    total = [torch.zeros_like(x) for x in start]
    for first, number in ((0, 4), (4, 3)):
        draw = generator(2, "rge", 0, first)
        u = [torch.randn(number, *x.shape, generator=draw, dtype=x.dtype) for x in start]
        for copy_ in range(number):
            moved = quartic([x + mu * each[copy_] for x, each in zip(start, u, strict=True)])
            slope = (moved - quartic(start)) / (mu * count)
            total = [t + slope * each[copy_] for t, each in zip(total, u, strict=True)]
    for gradient, expected in zip(found, total, strict=True):
        torch.testing.assert_close(gradient, expected, rtol=1e-9, atol=1e-9)


def test_its_steps_are_those_of_sgd_where_differences_are_exact():
    """Of a linear loss: torch's SGD with momentum and decay, for a dozen steps."""
    slopes = [torch.randn(s, generator=torch.Generator().manual_seed(4), dtype=torch.float64) for s in SHAPES]
    ours, theirs = weights(SHAPES), weights(SHAPES)
    arguments = {"lr": 0.1, "momentum": 0.8, "weight_decay": 0.05}
    one, other = DeepZero(ours, sparsity=0.0, **arguments), torch.optim.SGD(theirs, **arguments)
    for _ in range(12):
        one.step(lambda: torch.stack([(s * p).sum() for s, p in zip(slopes, ours, strict=True)]).sum())
        for parameter, slope in zip(theirs, slopes, strict=True):
            parameter.grad = slope.clone()
        other.step()
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


def test_grasp_finds_the_tensor_of_the_largest_scores():
    """Of sum a_i |theta_i|^2 / 2 the score of an entry is -a^2 theta^2: all of the second, before any of the first."""
    parameters = [torch.nn.Parameter(torch.ones(5, 4, dtype=torch.float64)) for _ in range(2)]
    optimizer = DeepZero(parameters, lr=0.0, sparsity=0.5, probes=400, mu=1e-3)
    optimizer.step(lambda: parameters[0].square().sum() / 2 + 50 * parameters[1].square().sum())
    assert optimizer.state[parameters[1]]["kept"] >= 18
    assert optimizer.state[parameters[0]]["kept"] <= 2


def test_continues_from_its_state_to_the_same_bits():
    whole, half = weights(SHAPES), weights(SHAPES)
    arguments = {"lr": 0.01, "refresh": 3, "probes": 5}
    one, first = DeepZero(whole, **arguments), DeepZero(half, **arguments)
    for _ in range(5):
        one.step(lambda: quartic(whole))
        first.step(lambda: quartic(half))
    second = DeepZero(half, **arguments)
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    for _ in range(4):
        one.step(lambda: quartic(whole))
        second.step(lambda: quartic(half))
    assert all(torch.equal(a, b) for a, b in zip(whole, half, strict=True))


RUNS = {
    "batches": ["supervised/classifier", *TABLE, "trainer.accumulate_grad_batches=2", "trainer.limit_val_batches=0"],
    "dropout": [
        "language/language_model",
        "optimizer=deepzero",
        "net.width=4",
        "net.depth=2",
        "net.heads=2",
        "net.dropout=0.3",
        "datamodule.batch_size=16",
        "datamodule.context=32",
        "trainer.limit_train_batches=1",
        "trainer.limit_val_batches=0",
    ],
}


@pytest.mark.parametrize("kind", RUNS)
def test_short_cuts_change_no_gradient(kind, tmp_path):
    """Stacked or in place, from the states on the way or from the start: the same steps, with fewer parts evaluated."""
    model, *more = RUNS[kind]
    few = ["optimizer.sparsity=0.98", "optimizer.pruning=uniform", "optimizer.momentum=0.5", "optimizer.lr=0.01"]
    ways = {
        "plain": ["optimizer.reuse=false", "optimizer.copies=1"],
        "reused": ["optimizer.copies=1"],
        "stacked": [],
    }
    ended = {}
    for name, way in ways.items():
        parts = trained(planned(model, tmp_path / name, *more, *few, "schedule=constant", *way))
        ended[name] = (dict(parts.method.named_parameters()), parts.trainer.optimizers[0].param_groups[0])
    for name in ("reused", "stacked"):
        for key, value in ended["plain"][0].items():
            torch.testing.assert_close(ended[name][0][key], value, rtol=0, atol=2e-4, msg=f"{name} {key}")
        assert ended[name][1]["queries"] == ended["plain"][1]["queries"]
        assert ended[name][1]["passes"] < ended["plain"][1]["passes"]
    assert all(torch.equal(ended["reused"][0][key], value) for key, value in ended["plain"][0].items())


@pytest.mark.parametrize(
    ("net", "inputs", "leaving"),
    [
        (MLP((3,), (2,), width=4, depth=2), (torch.ones(2, 3),), {"last.weight", "last.bias"}),
        (Transformer((4,), (5,), width=4, depth=1, heads=1), (torch.tensor([[1, 2]]),), {"norm.weight"}),
    ],
)
def test_it_sees_which_weights_the_stages_do_not_depend_on(net, inputs, leaving):
    """A token embedding that is also the last layer does not count as last."""
    memory = Memory(net)
    memory.begin()
    before = {name: p.detach().clone() for name, p in net.named_parameters()}
    with torch.no_grad():
        net(*inputs)
    assert {name for name, p in net.named_parameters() if id(p) in memory.leaving} == leaving
    assert all(torch.equal(p, before[name]) for name, p in net.named_parameters())


class Sloped(torch.nn.Module):
    """A method whose loss is the slope of its network in the records."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = MLP((3,), (1,), width=4, depth=2)

    def loss(self, x):
        with torch.enable_grad():
            x = x.clone().requires_grad_()
            return torch.autograd.grad(self.net(x).sum(), x)[0].square().mean().detach()


def watching(method, copies):
    """(optimizer that evaluates the loss of a method, a step of it on the same two records)."""
    optimizer = DeepZero(method.parameters(), lr=0.1, sparsity=0.0, copies=copies)
    optimizer.watch(method)
    optimizer.evaluations = Evaluations(method.loss)
    records = torch.linspace(-1, 1, 6).view(2, 3)
    return optimizer, lambda: optimizer.step(lambda: optimizer.evaluations.note(records))


def test_loss_that_torch_func_cannot_take_is_evaluated_copy_by_copy():
    ended = []
    for copies in (64, 1):
        method = Sloped()
        optimizer, step = watching(method, copies)
        if copies > 1:
            with pytest.warns(UserWarning, match="one copy at a time"):
                step()
        else:
            step()
        step()
        ended.append((list(method.parameters()), optimizer.param_groups[0]["passes"]))
    assert all(torch.equal(one, other) for one, other in zip(ended[0][0], ended[1][0], strict=True))
    assert ended[0][1] == ended[1][1]


class Twice(torch.nn.Module):
    """A method with a network that is reached by two names, and a weight that two layers share."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.net = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Tanh(), torch.nn.Linear(3, 3))
        self.net[2].weight = self.net[0].weight
        self.again = torch.nn.ModuleList([self.net])

    def loss(self, x):
        return self.again[0](x).square().mean() + self.net(x).mean()


def test_copies_of_weights_that_are_used_at_several_places_are_changed_at_each():
    ended = []
    for copies in (64, 1):
        method = Twice()
        optimizer, step = watching(method, copies)
        step()
        assert optimizer.copies == copies
        assert method.net[2].weight is method.net[0].weight
        ended.append(list(method.parameters()))
    for one, other in zip(*ended, strict=True):
        torch.testing.assert_close(one, other)


def test_weights_that_are_not_trained_now_stay():
    parameters = weights(SHAPES)
    start = [parameter.detach().clone() for parameter in parameters]
    optimizer = DeepZero(parameters, lr=0.01, sparsity=0.0)
    parameters[1].requires_grad_(False)
    optimizer.step(lambda: quartic(parameters))
    parameters[1].requires_grad_(True)
    assert [torch.equal(one, other) for one, other in zip(parameters, start, strict=True)] == [False, True, False]
    optimizer.step(lambda: quartic(parameters))
    assert not torch.equal(parameters[1], start[1])


def test_batch_normalisation_is_refused(tmp_path):
    run = planned("supervised/classifier", tmp_path, "net=normalised_mlp", "data=wine", "optimizer=deepzero")
    with pytest.raises(UserError, match="batch normalisation"):
        trained(run)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lr": -1.0}, r"optimizer\.lr=-1"),
        ({"mu": 0.0}, r"optimizer\.mu=0"),
        ({"sparsity": 1.0}, r"optimizer\.sparsity=1"),
        ({"estimator": "spsa"}, "estimator=spsa"),
        ({"pruning": "magnitude"}, "pruning=magnitude"),
        ({"queries": 0}, r"optimizer\.queries=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        DeepZero(weights(), **arguments)

"""The surrogate against its formula written out, its bound on the loss, and limits that are known steps."""

from __future__ import annotations

import copy
import io
import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.optimization.sso import SSO


def problem(seed=0, n=30, d=4, classes=3):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, d, generator=draw, dtype=torch.float64)
    return x, torch.randint(classes, (n,), generator=draw)


def network(d=4, classes=3, hidden=6, drop=0.0):
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(d, hidden), nn.Tanh(), nn.Dropout(drop), nn.Linear(hidden, classes)).double()


def watched(net, **arguments):
    optimizer = SSO(net.parameters(), **arguments)
    optimizer.watch(net)
    return optimizer


def written_out(net, x, y, eta, inner, steps, c=0.5, b=0.9, growth=1.8):
    """SSO of a mean cross-entropy, from its formula."""
    rate = 10.0 / growth
    for _ in range(steps):
        z0 = net(x).detach()
        g = (z0.softmax(1) - F.one_hot(y, z0.shape[1])) / len(x)

        def q(z0=z0, g=g):
            moved = net(x) - z0
            return (g * moved).sum() + (moved**2).sum() / (2 * eta * len(x))

        for _ in range(inner):
            value = q()
            slopes = torch.autograd.grad(value, list(net.parameters()))
            start = [each.detach().clone() for each in net.parameters()]
            square = sum(float((slope**2).sum()) for slope in slopes)
            rate *= growth
            while True:
                with torch.no_grad():
                    for each, old, slope in zip(net.parameters(), start, slopes, strict=True):
                        each.copy_(old - rate * slope)
                    if float(q()) <= float(value.detach()) - c * rate * square:
                        break
                rate *= b
        rate = float(torch.tensor(rate))
    return net


def test_is_the_algorithm_written_out():
    x, y = problem()
    ours, theirs = network(), network()
    optimizer = watched(ours, lr=1.5, inner=4)
    for _ in range(6):
        optimizer.step(lambda: F.cross_entropy(ours(x), y))
    written_out(theirs, x, y, 1.5, 4, 6)
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("inner", [1, 5, 40])
def test_on_whole_batches_the_surrogate_bounds_the_loss_and_no_step_raises_it(inner):
    """Softmax cross-entropy has a Hessian of at most 1/2 in its logits, hence eta = 2; net and rate do not matter."""
    x, y = problem()
    net = network()
    optimizer = watched(net, lr=2.0, inner=inner)
    last = math.inf
    for _ in range(25):
        before = F.cross_entropy(net(x), y).detach()
        calls = optimizer._look(lambda: F.cross_entropy(net(x), y))[1]
        with torch.no_grad():  # anywhere, near and far
            kept = copy.deepcopy(net.state_dict())
            for size in (0.01, 1.0, 30.0):
                for each in net.parameters():
                    each.add_(size * torch.randn_like(each))
                bound = optimizer.value(calls, 1 / (2 * 2.0 * len(x)))
                assert float(F.cross_entropy(net(x), y) - before) <= bound + 1e-12
            net.load_state_dict(kept)
        value = float(optimizer.step(lambda: F.cross_entropy(net(x), y)))
        assert value <= last + 1e-12
        last = value
    # the bound is tight of second order: a larger eta breaks it where the loss is most curved
    z = torch.zeros(1, 2).double()
    moved = torch.tensor([[1e-3, -1e-3]]).double()
    change = F.cross_entropy(z + moved, torch.tensor([0])) - F.cross_entropy(z, torch.tensor([0]))
    slope = torch.tensor([[-0.5, 0.5]]).double()
    assert float(change) > float((slope * moved).sum() + (moved**2).sum() / (2 * 2.1))


def test_one_short_inner_step_goes_along_the_gradient_of_the_loss():
    x, y = problem()
    net = network()
    start = [each.detach().clone() for each in net.parameters()]
    slopes = torch.autograd.grad(F.cross_entropy(net(x), y), list(net.parameters()))
    watched(net, lr=0.7, inner=1).step(lambda: F.cross_entropy(net(x), y))
    moved = [(old - new.detach()).flatten() for old, new in zip(start, net.parameters(), strict=True)]
    assert float(F.cosine_similarity(torch.cat(moved), torch.cat([s.flatten() for s in slopes]), 0)) > 1 - 1e-12


def test_many_inner_steps_of_free_outputs_are_gradient_descent_in_the_outputs():
    """z = theta itself: the surrogate is least at z - eta n g, g the slope of the mean."""

    class Table(nn.Module):
        def __init__(self):
            super().__init__()
            self.z = nn.Parameter(torch.linspace(-1, 1, 6).double().view(3, 2))

        def forward(self, rows):
            return self.z[rows]

    net, y = Table(), torch.tensor([0, 1, 1])
    start, rows = net.z.detach().clone(), torch.arange(3)
    slope = torch.autograd.grad(F.cross_entropy(net(rows), y, reduction="sum"), net.z)[0]
    watched(net, lr=0.8, inner=300).step(lambda: F.cross_entropy(net(rows), y))
    torch.testing.assert_close(net.z.detach(), start - 0.8 * slope, rtol=0, atol=1e-5)


def test_the_loss_is_asked_once_however_many_inner_steps():
    x, y = problem()
    net, asked = network(), []

    def loss():
        asked.append(1)
        return F.cross_entropy(net(x), y)

    watched(net, inner=20).step(loss)
    assert len(asked) == 1


def test_a_dropout_keeps_its_mask_for_a_step():
    """At the weights of the start the surrogate is exactly 0, which it is not with another mask."""
    x, y = problem()
    net = network(drop=0.5)
    optimizer = watched(net)
    calls = optimizer._look(lambda: F.cross_entropy(net(x), y))[1]
    torch.rand(7)
    assert optimizer.value(calls, 1.0) == 0


def test_resumes_to_the_same_bits():
    x, y = problem()
    whole, half = network(), network()
    one, first = watched(whole, inner=3), watched(half, inner=3)
    for _ in range(6):
        one.step(lambda: F.cross_entropy(whole(x), y))
    for _ in range(3):
        first.step(lambda: F.cross_entropy(half(x), y))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = watched(half, inner=3)
    second.load_state_dict(torch.load(file, weights_only=True))
    for _ in range(3):
        second.step(lambda: F.cross_entropy(half(x), y))
    for a, b in zip(whole.parameters(), half.parameters(), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bad", [{"lr": 0}, {"inner": 0}, {"growth": 0.5}, {"shrink": 1.0}, {"decrease": 0.0}])
def test_bad_values_are_refused(bad):
    with pytest.raises(UserError, match=next(iter(bad))):
        SSO(network().parameters(), **bad)


def test_what_it_cannot_look_at_is_refused():
    net = network()
    with pytest.raises(UserError, match="watch"):
        SSO(net.parameters()).step(lambda: net(torch.zeros(1, 4).double()).sum())
    pair = nn.Module()
    pair.net, pair.loss, other = net, None, nn.Parameter(torch.zeros(1))
    with pytest.raises(UserError, match="others beside"):
        SSO([*net.parameters(), other]).watch(pair)
    with pytest.raises(UserError, match="does not ask"):
        watched(net).step(lambda: other.sum())

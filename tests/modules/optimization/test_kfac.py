"""K-FAC against its algorithm written out, and against the natural gradient where its factors are exact."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.optimization.kfac import KFAC, damped
from tests.modules.optimization.layers import batches, network, train, what_each_record_sees


def test_is_the_algorithm_written_out():
    lr, gamma, damping, every = 0.05, 0.7, 0.02, 2
    ours, net, data = network(), network(), batches(9)
    optimizer = KFAC(ours.parameters(), lr=lr, momentum=0.0, gamma=gamma, damping=damping, every=every)
    optimizer.watch(ours)
    train(optimizer, ours, data)
    factors: dict = {}
    for count, (x, y) in enumerate(data):
        records = what_each_record_sees(net, x, y)
        names = list(net.parameters())
        grads = dict(zip(names, torch.autograd.grad(F.cross_entropy(net(x), y), names), strict=True))
        for layer, (inputs, slopes) in zip((net[0], net[2], net[4]), records, strict=True):
            if count % every == 0:
                new = (slopes.T @ slopes / len(x), inputs.T @ inputs / len(x))
                old = factors.get(layer, new)[:2]
                left, right = (gamma * a + (1 - gamma) * b for a, b in zip(old, new, strict=True))
                pi = ((right.trace() / len(right)) / (left.trace() / len(left))) ** 0.5
                inverses = (
                    torch.linalg.inv(left + damping**0.5 / pi * torch.eye(len(left))),
                    torch.linalg.inv(right + damping**0.5 * pi * torch.eye(len(right))),
                )
                factors[layer] = (left, right, *inverses)
            whole = grads[layer.weight]
            if layer.bias is not None:
                whole = torch.cat([whole, grads[layer.bias][:, None]], 1)
            step = factors[layer][2] @ whole @ factors[layer][3]
            step = step * whole.norm() / step.norm()
            grads[layer.weight] = step[:, : layer.weight.shape[1]]
            if layer.bias is not None:
                grads[layer.bias] = step[:, -1]
        with torch.no_grad():
            for parameter, grad in grads.items():
                parameter -= lr * grad
    for one, other in zip(ours.parameters(), net.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-8)


def test_one_output_is_the_gauss_newton_direction():
    """For one linear output and squared errors L is a number: D is along (X'X/n)^-1 times the gradient."""
    torch.manual_seed(0)
    net, x, y = nn.Linear(5, 1, bias=False).double(), torch.randn(40, 5).double(), torch.randn(40, 1).double()
    optimizer = KFAC(net.parameters(), lr=1.0, momentum=0.0, damping=1e-20)
    optimizer.watch(net)
    start = net.weight.detach().clone()
    ((net(x) - y) ** 2).mean().backward()
    slope = net.weight.grad.clone()
    optimizer.step()
    expected = torch.linalg.solve(x.T @ x, slope.T).T
    moved = start - net.weight.detach()
    torch.testing.assert_close(moved / moved.norm(), expected / expected.norm(), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(moved.norm(), slope.norm())


def test_layers_whose_weights_are_stacks_are_none_of_its_own():
    """As in an ensemble that torch.func evaluates as one network."""
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    net[1].weight = nn.Parameter(torch.stack([net[1].weight.detach()] * 2))
    optimizer = KFAC(net.parameters())
    optimizer.watch(net)
    assert list(optimizer.layers) == [net[0].weight]
    other = {name: value.detach().clone().requires_grad_() for name, value in net[0].named_parameters()}
    torch.func.functional_call(net[0], other, (torch.ones(4, 3),)).sum().backward()  # another weight, for a moment
    assert optimizer.layers[net[0].weight].rows == 0
    with pytest.raises(UserError, match="no linear or convolutional layer"):
        KFAC(net[1].parameters()).watch(net[1])


def test_what_has_no_inverse_is_named():
    with pytest.raises(UserError, match="no inverse"):
        damped(-torch.eye(2)[None], torch.zeros(1))


def test_values_out_of_range_are_refused():
    with pytest.raises(UserError, match=r"optimizer\.damping=0\.0"):
        KFAC(network().parameters(), damping=0.0)

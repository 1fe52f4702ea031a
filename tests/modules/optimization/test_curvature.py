"""Hessians and their stand-ins against torch.func, closed forms and each other."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from compendium.errors import UserError
from modules.optimization.curvature import fisher, gauss_newton, hessian, value_and_gradient


def classification(depth):
    torch.manual_seed(0)
    layers = [nn.Linear(4, 3)] if depth == 1 else [nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)]
    net = nn.Sequential(*layers).double()
    x, y = torch.randn(7, 4, dtype=torch.float64), torch.tensor([0, 1, 2, 0, 1, 2, 2])
    return net, list(net.parameters()), x, y


def functional(net, x, y):
    """The loss as a function of the flat weights, for torch.func."""
    names, shapes = zip(*((n, p.shape) for n, p in net.named_parameters()), strict=True)

    def outputs(w):
        parts = w.split([shape.numel() for shape in shapes])
        named = {n: part.view(shape) for n, part, shape in zip(names, parts, shapes, strict=True)}
        return torch.func.functional_call(net, named, (x,))

    return outputs, lambda w: F.cross_entropy(outputs(w), y)


@pytest.mark.parametrize("depth", [1, 2])
def test_they_are_what_torch_func_makes_of_their_definitions(depth):
    net, weights, x, y = classification(depth)
    outputs, loss = functional(net, x, y)
    w = torch.cat([each.detach().flatten() for each in weights])

    def evaluate():
        return F.cross_entropy(net(x), y)

    value, slope = value_and_gradient(evaluate, weights)
    torch.testing.assert_close(value, loss(w))
    torch.testing.assert_close(slope, torch.func.grad(loss)(w))
    torch.testing.assert_close(hessian(evaluate, weights), torch.func.hessian(loss)(w))
    jacobian = torch.func.jacrev(outputs)(w)  # (B, C, n)
    p = net(x).detach().softmax(1)
    bent = (torch.diag_embed(p) - p[:, :, None] * p[:, None]) / len(x)
    torch.testing.assert_close(
        gauss_newton(evaluate, weights, net), torch.einsum("bcn,bcd,bdm->nm", jacobian, bent, jacobian)
    )
    of_each = torch.einsum("bcn,bc->bn", jacobian, p - F.one_hot(y, 3))
    torch.testing.assert_close(fisher(evaluate, weights, net), of_each.T @ of_each / len(x))


def test_gauss_newton_is_the_hessian_of_a_linear_network():
    net, weights, x, y = classification(1)

    def evaluate():
        return F.cross_entropy(net(x), y)

    torch.testing.assert_close(gauss_newton(evaluate, weights, net), hessian(evaluate, weights))


def test_calls_add_up():
    """Two halves of the records are two calls: the same matrix as of one call."""
    net, weights, x, y = classification(2)

    def evaluate():
        return F.cross_entropy(net(x), y)

    def in_parts():
        return (F.cross_entropy(net(x[:3]), y[:3]) * 3 + F.cross_entropy(net(x[3:]), y[3:]) * 4) / 7

    torch.testing.assert_close(gauss_newton(in_parts, weights, net), gauss_newton(evaluate, weights, net))


def test_a_weight_that_the_loss_does_not_know_has_no_curvature():
    net, weights, x, y = classification(1)
    idle = nn.Parameter(torch.ones(2, dtype=torch.float64))
    whole = hessian(lambda: F.cross_entropy(net(x), y), [idle, *weights])
    assert not whole[:2].any()
    assert not whole[:, :2].any()
    torch.testing.assert_close(whole[2:, 2:], hessian(lambda: F.cross_entropy(net(x), y), weights))


def test_a_linear_loss_has_none():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    assert hessian(lambda: 3 * weight.sum(), [weight]).equal(torch.zeros(2, 2))


def test_a_network_that_is_not_called_says_so():
    weight = nn.Parameter(torch.tensor([1.0, 2.0]))
    with pytest.raises(UserError, match="never called Linear"):
        gauss_newton(lambda: weight.square().sum(), [weight], nn.Linear(2, 2))

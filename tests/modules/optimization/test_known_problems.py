"""A soft maximum and a powered residual against torch.func and their known optima."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.log_sum_exp import LogSumExp
from modules.optimization.powered_residual import PoweredResidual

SPEC = DataSpec("equations", "vector", (5,), target="real")


def records():
    torch.manual_seed(0)
    x = torch.randn(30, 5, dtype=torch.float64)
    return x, x @ torch.tensor([1.0, -2, 0.5, 3, 0], dtype=torch.float64)


def as_function(method, batch):
    def loss(weight):
        return torch.func.functional_call(Lossy(method), {"method.weight": weight}, (batch,))

    return loss


class Lossy(torch.nn.Module):
    def __init__(self, method):
        super().__init__()
        self.method = method

    def forward(self, batch):
        return self.method.loss(batch)


def test_the_soft_maximum_is_least_at_zero():
    x, y = records()
    method = LogSumExp(SPEC, mu=0.7).double()
    loss = as_function(method, Labelled(x, y))
    zero = torch.zeros(5, dtype=torch.float64)
    torch.testing.assert_close(torch.func.grad(loss)(zero), zero, atol=1e-12, rtol=0)
    assert torch.linalg.eigvalsh(torch.func.hessian(loss)(zero))[0] > 0
    ones = torch.ones(5, dtype=torch.float64)
    figures = method.optimality(x, y)
    assert figures["suboptimality"] == pytest.approx(float(loss(ones) - loss(zero)))
    assert figures["distance"] == 1


def test_weighted_gauss_newton_drops_the_square_of_the_gradient():
    x, y = records()
    method = LogSumExp(SPEC, mu=0.7).double()
    loss = as_function(method, Labelled(x, y))
    w = torch.ones(5, dtype=torch.float64)
    g = torch.func.grad(loss)(w)
    torch.testing.assert_close(
        method.approximate_hessian(Labelled(x, y)), torch.func.hessian(loss)(w) + torch.outer(g, g) / 0.7
    )


@pytest.mark.parametrize("power", [2.0, 3.0, 4.0])
def test_the_fisher_term_is_the_hessian_without_that_of_the_equations(power):
    x, y = records()
    method = PoweredResidual(SPEC, power=power).double()
    loss = as_function(method, Labelled(x, y))
    w = torch.ones(5, dtype=torch.float64)
    u = (x @ w - y) / 30**0.5
    torch.testing.assert_close(loss(w), u.norm() ** power / power)
    rest = u.norm() ** (power - 2) * x.T @ x / 30
    torch.testing.assert_close(method.approximate_hessian(Labelled(x, y)), torch.func.hessian(loss)(w) - rest)


def test_the_powered_residual_ends_at_the_solution():
    x, y = records()
    method = PoweredResidual(SPEC).double()
    with torch.no_grad():
        method.weight.copy_(torch.tensor([1.0, -2, 0.5, 3, 0.1]))
    figures = method.optimality(x, y)
    assert figures["distance"] == pytest.approx(0.1)
    assert figures["suboptimality"] == pytest.approx(float((0.01 * x[:, 4].square().mean()) ** 2 / 4))


def test_mistakes_say_what_would_do():
    with pytest.raises(UserError, match=r"model\.mu"):
        LogSumExp(SPEC, mu=0.0)
    with pytest.raises(UserError, match=r"model\.power"):
        PoweredResidual(SPEC, power=1.0)

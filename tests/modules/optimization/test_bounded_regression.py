"""The known optimum against scipy's bounded least squares, the secular equation and the conditions of optimality."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import brentq, lsq_linear

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.optimization.bounded_regression import BoundedRegression

SPEC = DataSpec("numbers", "vector", (6,), target="real")


def records():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(80, 6, generator=draw, dtype=torch.float64) @ torch.randn(6, 6, generator=draw, dtype=torch.float64)
    return x, x @ torch.tensor([0.5, -1, 0.1, 2, 0, -0.3]).double() + torch.randn(80, generator=draw).double()


def method(**arguments):
    return BoundedRegression(SPEC, **arguments)


@pytest.mark.parametrize("bound", [0.05, 0.4, 5.0])
def test_the_box(bound):
    x, z = records()
    expected = torch.tensor(lsq_linear(x.numpy(), z.numpy(), (-bound, bound), method="bvls", tol=1e-14).x)
    torch.testing.assert_close(method(bound=bound).optimum(x, z), expected, rtol=0, atol=1e-8)


def test_the_ball():
    """Ridge regression whose penalty is such that the weights have the norm of the bound."""
    x, z = records()

    def ridge(penalty):
        return torch.linalg.solve(x.T @ x + penalty * torch.eye(6), x.T @ z)

    expected = ridge(brentq(lambda penalty: float(ridge(penalty).norm()) - 0.5, 0.0, 1e6, xtol=1e-12))
    torch.testing.assert_close(method(bound=0.5, norm=2).optimum(x, z), expected, rtol=0, atol=1e-8)


def test_figures_by_hand():
    """x = 1 and z = 3 of one weight: f(w) = (w - 3)^2 / 2, 2 at the bound of 1, 0.5 at w = 2 outside of it."""
    problem = BoundedRegression(DataSpec("one", "vector", (1,), target="real"), bound=1.0)
    x, y = torch.ones(4, 1), torch.full((4,), 3.0)
    for weight, figures in ((1.0, (0, 0, 0)), (0.5, (3.125 - 2, 0.5, 0)), (2.0, (0.5 - 2, 1, 1))):
        problem.weight.data.fill_(weight)
        assert tuple(problem.optimality(x, y).values()) == pytest.approx(figures, abs=1e-9)


def test_the_loss_has_the_units_of_the_spread():
    problem = method()
    problem.shift.fill_(10.0)
    problem.scale.fill_(4.0)
    assert problem.units(torch.tensor([10.0, 18.0])).tolist() == [0.0, 2.0]


@pytest.mark.parametrize(("arguments", "message"), [({"bound": 0}, r"model\.bound"), ({"norm": 1}, r"model\.norm")])
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        method(**arguments)

"""The powered residual against torch.func and its known solution."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.optimization.powered_residual import PoweredResidual
from tests.modules.optimization.problems import SPEC, as_function, records


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


def test_a_power_is_at_least_2():
    with pytest.raises(UserError, match=r"model\.power"):
        PoweredResidual(SPEC, power=1.0)

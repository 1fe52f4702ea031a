"""The soft maximum against torch.func and its known optimum."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from modules.optimization.log_sum_exp import LogSumExp
from tests.modules.optimization.problems import SPEC, as_function, records


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


def test_a_smoothing_is_above_0():
    with pytest.raises(UserError, match=r"model\.mu"):
        LogSumExp(SPEC, mu=0.0)

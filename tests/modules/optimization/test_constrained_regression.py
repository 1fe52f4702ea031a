"""Constrained logistic regression against scipy's SLSQP and the conditions of optimality."""

from __future__ import annotations

import pytest
import torch
from scipy.optimize import minimize

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.constrained.solvers import Exact
from modules.optimization.constrained_regression import ConstrainedRegression


def method(d=6, **arguments):
    spec = DataSpec("pair", "vector", (d,), target="class", classes=("a", "b"))
    return ConstrainedRegression(spec, solver=Exact(), **arguments)


def test_it_ends_at_a_minimum_that_scipy_finds_from_there():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(50, 6, generator=draw)
    batch = Labelled(x, (x[:, 0] + 0.5 * torch.randn(50, generator=draw) > 0).long())
    one = method(linear=2)
    for _ in range(60):
        if not one.iterate(batch):
            break
    end = one.weight.detach()
    assert float(one.constraints(end).abs().max()) < 1e-6
    assert float(end.norm()) == pytest.approx(1, abs=1e-6)
    constraint = {"type": "eq", "fun": lambda w: one.constraints(torch.tensor(w)).numpy()}
    found = minimize(
        lambda w: float(one.objective(torch.tensor(w), batch)), end.numpy(), constraints=[constraint], method="SLSQP"
    )
    assert float(one.objective(end, batch)) == pytest.approx(found.fun, abs=1e-6)
    signs = 2.0 * batch.y - 1
    by_hand = torch.log1p((-signs * (x.double() @ end)).exp()).mean()
    torch.testing.assert_close(one.objective(end, batch), by_hand)


def test_bad_input_is_refused():
    with pytest.raises(UserError, match=r"model\.linear=5"):
        method(linear=5)
    with pytest.raises(UserError, match="two classes"):
        ConstrainedRegression(
            DataSpec("three", "vector", (6,), target="class", classes=("a", "b", "c")), solver=Exact(), linear=1
        )

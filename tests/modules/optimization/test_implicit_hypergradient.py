"""Approximate implicit differentiation: the closed form, and the two solvers against each other."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.implicit_hypergradient import ImplicitHypergradient
from tests.modules.optimization.bilevel import classes, decays, real, weights


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_it_is_the_closed_form_once_both_loops_are_done(solver):
    steps = 5 if solver == "cg" else 400
    method = decays(ImplicitHypergradient, lower_steps=400, lower_rate=0.3, solver=solver, solver_steps=steps)
    batch = real(20, 0)
    with torch.no_grad():
        found = method.hypergradient(method.x.detach(), batch)
    expected = method.problem.solution(method.x.detach(), batch, method._upper).gradient
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)
    assert method.calls.tolist() == [400 * 20 + 15, (steps + 1) * 20]


@pytest.mark.parametrize("solver", ["cg", "neumann"])
def test_solvers_solve_the_system_of_the_hessian(solver):
    method = weights(ImplicitHypergradient, solver=solver, solver_steps=15 if solver == "cg" else 600)
    batch, x, y = classes(20, 0), method.x.detach(), torch.linspace(-1, 1, 15, dtype=torch.float64)
    hessian = torch.func.hessian(lambda y: method.problem.lower(x, method.named(y), batch))(y)
    v = torch.linspace(1, 2, 15, dtype=torch.float64)
    solve = method.conjugate if solver == "cg" else method.series
    with torch.no_grad():
        torch.testing.assert_close(solve(x, y, v, batch), torch.linalg.solve(hessian, v), rtol=1e-6, atol=1e-8)


def test_a_truncated_series_is_its_terms():
    method, batch = weights(ImplicitHypergradient, solver="neumann", solver_steps=2), classes(20, 0)
    x, y, v = method.x.detach(), method.y, torch.ones(15, dtype=torch.float64)
    hessian = torch.func.hessian(lambda y: method.problem.lower(x, method.named(y), batch))(y)
    left = torch.eye(15, dtype=torch.float64) - 0.5 * hessian
    with torch.no_grad():
        found = method.series(x, y, v, batch)
    torch.testing.assert_close(found, 0.5 * (v + left @ v + left @ left @ v))


@pytest.mark.parametrize("arguments", [{"solver": "lu"}, {"solver_steps": 0}])
def test_what_does_not_fit_is_refused(arguments):
    with pytest.raises(UserError, match=r"model\.solver"):
        decays(ImplicitHypergradient, **arguments)

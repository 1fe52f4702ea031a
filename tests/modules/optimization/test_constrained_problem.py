"""Solutions against scipy's, derivatives of the merit function against differences, solvers against a factorization."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.optimize import minimize

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.optimization.constrained.problems import PROBLEMS, EllipticControl, HockSchittkowski
from modules.optimization.constrained.solvers import GMRES, Exact, GaussianSketch, Kaczmarz, Solver
from modules.optimization.constrained_problem import ConstrainedProblem

SPEC = DataSpec("none", "vector", (2,))


def method(problem, solver, **arguments):
    return ConstrainedProblem(SPEC, problem=problem, solver=solver, **arguments)


def solved(one, most=60):
    torch.manual_seed(0)
    while most and one.iterate(None):
        most -= 1
    return one.constrained_optimality(None)


@pytest.mark.parametrize("number", PROBLEMS)
def test_least_values_are_those_of_an_independent_solver(number):
    problem = HockSchittkowski(number)

    def value(x):
        return float(problem.objective(torch.tensor(x)))

    constraint = {"type": "eq", "fun": lambda x: problem.constraints(torch.tensor(x)).numpy()}
    options = {"maxiter": 500, "ftol": 1e-14}
    found = minimize(value, problem.start.numpy(), constraints=[constraint], method="SLSQP", options=options)
    assert found.fun == pytest.approx(problem.best, abs=2e-6)
    figures = solved(method(problem, Exact()))
    assert figures["kkt"] <= 1e-6
    assert figures["excess"] == pytest.approx(0, abs=1e-6)


def test_the_elliptic_problem_by_its_linear_system():
    problem = EllipticControl(2)
    h = 2 / 3
    stencil = torch.tensor([[-4, 1, 1, 0], [1, -4, 0, 1], [1, 0, -4, 1], [0, 1, 1, -4]]).double() / h**2
    x = torch.arange(1.0, 9.0).double()
    torch.testing.assert_close(problem.constraints(x), stencil @ x[:4] + x[4:])
    figures = solved(method(problem, Exact()))
    assert figures["iterations"] == 1  # a quadratic
    assert figures["excess"] == pytest.approx(0, abs=1e-12)
    assert figures["kkt"] < 1e-12


def test_the_gradient_of_the_merit_function_is_its_difference_quotient():
    one = method(HockSchittkowski(78), Exact())
    x, multiplier = one.weight.detach(), torch.tensor([0.3, -1.0, 2.0]).double()
    slope, value = one.derivatives(x, multiplier, None)
    jacobian = torch.func.jacrev(one.constraints)(x)
    hessian = torch.func.hessian(lambda at: one.objective(at, None) + multiplier @ one.constraints(at))(x)
    got = one.slope_of_merit(hessian, jacobian, -torch.cat([slope, value]))
    h, whole = 1e-6, torch.cat([x, multiplier])
    for place in range(len(whole)):
        step = torch.zeros_like(whole)
        step[place] = h
        ends = [one.merit(*(whole + sign * step).split([5, 3]), None) for sign in (1, -1)]
        assert float(got[place]) == pytest.approx((ends[0] - ends[1]) / (2 * h), rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("solver", [Exact(), GMRES(), Kaczmarz(), GaussianSketch(), GaussianSketch(block=3)])
def test_a_solver_reaches_its_target(solver):
    draw = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    half = torch.randn(6, 6, generator=draw, dtype=torch.float64)
    matrix, b = half + half.T + 6 * torch.eye(6), torch.randn(6, generator=draw, dtype=torch.float64)
    x, flops = solver.solve(matrix, b, torch.zeros(6).double(), 1e-9)
    assert float((matrix @ x - b).norm()) <= 1e-9
    torch.testing.assert_close(x, torch.linalg.solve(matrix, b), rtol=0, atol=1e-7)
    assert flops > 0
    nearer, more = solver.solve(matrix, b, x, 1e-9)
    if not isinstance(solver, Exact):
        assert more <= 2 * 36
        torch.testing.assert_close(nearer, x)


def test_one_sketch_of_kaczmarz_is_the_projection_onto_a_row_s_plane():
    matrix, b = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double(), torch.tensor([1.0, -1.0]).double()
    torch.manual_seed(3)
    rows = torch.randint(2, (2,)).tolist()
    x = torch.zeros(2).double()
    for row in rows:
        x = x + matrix[row] * (b[row] - matrix[row] @ x) / matrix[row].square().sum()
    torch.manual_seed(3)
    got, flops = Kaczmarz(most=2).solve(matrix, b, torch.zeros(2).double(), 0.0)
    torch.testing.assert_close(got, x)
    assert flops == 2 * 4 + 2 * 4 * 2 + 2 * 4  # the first residual, two rows, another residual


def test_kaczmarz_converges_as_strohmer_and_vershynin_say():
    """With even rows of equal norm E |x - x*|^2 falls by 1 - s_min^2 / |A|^2 a sketch at least."""
    torch.manual_seed(0)
    matrix = torch.linalg.qr(torch.randn(5, 5).double())[0] @ torch.diag(torch.tensor([1, 1, 1, 0.5, 0.5]).double())
    matrix = torch.nn.functional.normalize(matrix, dim=1)
    start, b = torch.zeros(5).double(), torch.ones(5).double()
    best = torch.linalg.solve(matrix, b)
    rate = 1 - float(torch.linalg.svdvals(matrix)[-1]) ** 2 / 5
    ends = [float((Kaczmarz(most=20).solve(matrix, b, start, 0.0)[0] - best).square().sum()) for _ in range(200)]
    assert sum(ends) / 200 <= 1.1 * rate**20 * float(best.square().sum())


@pytest.mark.parametrize("number", [40, 42, 78])
def test_sketches_solve_what_a_factorization_does(number):
    for solver in (Kaczmarz(), GaussianSketch(block=4), GMRES()):
        figures = solved(method(HockSchittkowski(number), solver))
        assert figures["kkt"] <= 1e-6
        assert figures["excess"] == pytest.approx(0, abs=1e-6)


class Crude(Solver):
    """The solution, off by a share of the right-hand side in a fixed direction."""

    def __init__(self, share):
        self.share = share

    def solve(self, matrix, b, x, target):
        push = torch.ones_like(b) / math.sqrt(len(b))
        size = self.share * float(b.norm()) * (min(1.0, float(b.norm())) if self.share < 0 else 1)
        return torch.linalg.solve(matrix, b + size * push), 1.0


def test_a_fixed_relative_accuracy_gives_linear_and_a_sharpened_one_superlinear_convergence():
    """Residuals are multiplied by the accuracy at each unit step near the solution; by itself where that sharpens."""
    paths = {}
    for share in (0.05, -0.05):
        one, path = method(HockSchittkowski(42), Crude(share), tolerance=1e-13), []
        for _ in range(12):
            path.append(one.residual(None))
            if not one.iterate(None):
                break
        paths[share] = path
    linear = [b / a for a, b in pairwise(paths[0.05]) if 1e-11 < a < 1e-2]
    assert linear == pytest.approx([0.05] * len(linear), rel=0.2)
    assert len(linear) >= 4
    sharp = [b / a for a, b in pairwise(paths[-0.05]) if 1e-7 < a < 1e-1]
    assert all(later < earlier for earlier, later in pairwise(sharp))
    assert sharp[-1] < 1e-3


def test_penalties_adapt_until_the_direction_descends():
    one = method(HockSchittkowski(7), Exact())
    one.iterate(None)
    eta1, eta2, delta = one.adapted.tolist()
    times = round(math.log(0.1 / eta2, 1.5))
    assert eta1 == pytest.approx(1.5 ** (2 * times))
    assert eta2 == pytest.approx(0.1 / 1.5**times)
    assert 1e-6 <= delta <= 0.1


def test_bad_input_is_refused():
    with pytest.raises(UserError, match="not written out"):
        HockSchittkowski(1)
    with pytest.raises(UserError, match=r"model\.tolerance"):
        method(HockSchittkowski(6), Exact(), tolerance=0)
    with pytest.raises(UserError, match=r"model\.solver\.most"):
        Kaczmarz(most=0)
    with pytest.raises(UserError, match=r"model\.solver\.block"):
        GaussianSketch(block=0)
    with pytest.raises(UserError, match=r"model\.problem\.size"):
        EllipticControl(0)
    flat = HockSchittkowski(6)
    flat._constraints = lambda a, b: (0 * a,)
    with pytest.raises(UserError, match="rank"):
        method(flat, Exact()).iterate(None)

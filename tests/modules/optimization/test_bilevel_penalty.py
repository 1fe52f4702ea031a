"""The penalty method: its gradient against closed forms, its order in sigma, its loops written out, and its bounds."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.bilevel_penalty import BilevelPenalty
from tests.modules.optimization.bilevel import decays, real


def settled(sigma, steps, **arguments):
    """The estimate once both minimisers are found, and the closed form."""
    method, batch = decays(BilevelPenalty, sigma=sigma, lower_steps=steps, lower_rate=0.3, **arguments), real(20, 0)
    with torch.no_grad():
        found = method.hypergradient(method.x.detach(), batch)
    return method, batch, found, method.problem.solution(method.x.detach(), batch, method._upper).gradient


def test_it_is_the_gradient_of_the_penalty_function():
    """Of psi with both minima in closed form, by autograd through the solution of linear systems."""
    method, batch, found, _ = settled(0.3, 400)
    x = method.x.detach().clone().requires_grad_()

    def least(sigma):
        def h(y):
            upper = sigma * method.problem.upper(x, method.named(y), method._upper) if sigma else 0.0
            return method.problem.lower(x, method.named(y), batch) + upper

        zero = torch.zeros(5, dtype=torch.float64)
        return h(-torch.linalg.solve(torch.func.hessian(h)(zero), torch.func.grad(h)(zero)))

    psi = (least(0.3) - least(0.0)) / 0.3
    torch.testing.assert_close(found, torch.autograd.grad(psi, x)[0], rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize(("seen", "steps"), [(None, 400), (2, 6000)])
def test_its_error_falls_with_sigma_also_where_solutions_are_many(seen, steps):
    errors = []
    for sigma in (0.02, 0.01):
        _, _, found, exact = settled(sigma, steps, problem={"seen": seen})
        errors.append(float((found - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)
    assert errors[1] < 0.05 * float(exact.norm())


def test_it_takes_no_second_derivative_and_counts_records():
    method, *_ = settled(0.1, 3)
    assert method.calls.tolist() == [3 * (20 + 20 + 15) + 20 + 20 + 15, 0.0]


def test_the_double_loop_is_the_one_written_out():
    method = decays(BilevelPenalty, sigma=0.2, lower_steps=3, lower_rate=0.1, rho=0.7, pull=0.4)
    batch, x = real(20, 0), method.x.detach().clone()
    design = torch.cat([batch.x, torch.ones(20, 1, dtype=torch.float64)], 1)
    above = torch.cat([method._upper.x, torch.ones(15, 1, dtype=torch.float64)], 1)
    decay = torch.cat([x.exp(), torch.zeros(1, dtype=torch.float64)])

    def g(y):
        return design.T @ (design @ y - batch.y) / 20 + decay * y

    def f(y):
        return above.T @ (above @ y - method._upper.y) / 15

    y = z = a = b = torch.zeros(5, dtype=torch.float64)
    for _ in range(4):
        for _ in range(3):
            y, z = y - 0.1 * (0.2 * f(y) + g(y) + (y - a) / 0.7), z - 0.1 * (g(z) + (z - b) / 0.7)
        a, b = a + 0.4 * (y - a), b + 0.4 * (z - b)
        expected = 0.5 * x.exp() * (y[:4] ** 2 - z[:4] ** 2) / 0.2
        with torch.no_grad():
            found = method.hypergradient(x, batch)
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-14)
    for own, other in ((method.y, y), (method.z, z), (method.a, a), (method.b, b)):
        torch.testing.assert_close(own, other, rtol=1e-12, atol=1e-14)


def test_momentum_is_the_recursion_written_out():
    """On whole batches whose records change from step to step, with x that moves."""
    eta, sigma, rate = 0.3, 0.2, 0.1
    method = decays(BilevelPenalty, sigma=sigma, lower_steps=1, lower_rate=rate, momentum=eta)
    above = torch.cat([method._upper.x, torch.ones(15, 1, dtype=torch.float64)], 1)
    y = z = torch.zeros(5, dtype=torch.float64)
    x, last = method.x.detach().clone(), None
    for step in range(5):
        batch = real(20, 10 + step)
        design = torch.cat([batch.x, torch.ones(20, 1, dtype=torch.float64)], 1)

        def g(x, y, design=design, batch=batch):
            decay = torch.cat([x.exp(), torch.zeros(1, dtype=torch.float64)])
            return design.T @ (design @ y - batch.y) / 20 + decay * y

        def h(x, y, g=g):
            return sigma * above.T @ (above @ y - method._upper.y) / 15 + g(x, y)

        def of_x(x, y, z):
            return 0.5 * x.exp() * (y[:4] ** 2 - z[:4] ** 2) / sigma

        dy, dz = h(x, y), g(x, z)
        if last is not None:
            px, py, pz, ey, ez, ex = last
            dy, dz = dy + (1 - eta) * (ey - h(px, py)), dz + (1 - eta) * (ez - g(px, pz))
        new_y, new_z = y - rate * dy, z - rate * dz
        dx = of_x(x, new_y, new_z)
        if last is not None:
            dx = dx + (1 - eta) * (ex - of_x(px, y, z))
        with torch.no_grad():
            found = method.hypergradient(x, batch)
        torch.testing.assert_close(found, dx, rtol=1e-9, atol=1e-13)
        last, y, z, x = (x, y, z, dy, dz, dx), new_y, new_z, x - 0.5 * dx
    torch.testing.assert_close(method.y, y, rtol=1e-10, atol=1e-13)


def test_momentum_of_one_is_none():
    with_it, without = (decays(BilevelPenalty, lower_steps=1, **more) for more in ({"momentum": 1.0}, {}))
    for step in range(3):
        batch = real(20, step)
        with torch.no_grad():
            one, other = (m.hypergradient(m.x.detach(), batch) for m in (with_it, without))
        assert torch.equal(one, other)


def test_its_state_is_all_that_a_resumed_run_needs():
    one, other = (decays(BilevelPenalty, lower_steps=1, momentum=0.2, rho=2.0, pull=0.5) for _ in range(2))
    with torch.no_grad():
        for step in range(3):
            one.hypergradient(one.x.detach() - 0.1 * step, real(20, step))
        other.load_state_dict(one.state_dict())
        found = [m.hypergradient(m.x.detach() - 0.4, real(20, 7)) for m in (one, other)]
    assert torch.equal(*found)


def test_upper_variables_stay_within_their_bounds():
    method = decays(BilevelPenalty)
    x = torch.tensor([-9.0, -3.0, 0.5, 0.0], dtype=torch.float64)
    assert method.projected(x).tolist() == [-8.0, -3.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sigma": 0.0}, r"model\.sigma=0\.0"),
        ({"rho": -1.0}, r"rho=-1\.0"),
        ({"pull": 0.0}, r"pull=0\.0"),
        ({"momentum": 1.5}, r"momentum=1\.5"),
        ({"momentum": 0.5, "lower_steps": 2}, "momentum is of the single loop"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        decays(BilevelPenalty, **arguments)

"""Searched Newton steps against their formulas written out, scipy's optimum, and each other in their limits."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from scipy.optimize import minimize

from compendium.errors import UserError
from modules.optimization.cubic_newton import CubicNewton
from modules.optimization.gradient_normalized_newton import GradientNormalizedNewton
from modules.optimization.searched_gradient import SearchedGradient
from modules.optimization.super_universal_newton import SuperUniversalNewton

KINDS = (CubicNewton, GradientNormalizedNewton, SearchedGradient, SuperUniversalNewton)


def rosenbrock(x):
    return (1 - x[0]) ** 2 / 4 + (x[1] - 2 * x[0] ** 2 + 1) ** 2


def bowl(x):
    """Convex, flat at its least value 0."""
    return (x**4).sum() / 4 + (x[0] - x[1]).square()


def start(at=(-1.2, 1.0)):
    return torch.nn.Parameter(torch.tensor(at, dtype=torch.float64))


def derivatives(f, x):
    return f(x), torch.func.grad(f)(x), torch.func.hessian(f)(x)


def walked(optimizer, f, weight, steps):
    for _ in range(steps):
        optimizer.step(lambda: f(weight))
    return weight.detach()


def test_gradient_normalized_steps_are_those_of_the_algorithm():
    f, weight = bowl, start((1.5, -0.7))
    x, gamma, tried = weight.detach().clone(), 1.0, 0
    optimizer = GradientNormalizedNewton([weight])
    for _ in range(12):
        value, g, hess = derivatives(f, x)
        while True:
            tried += 1
            ridge = float(g.norm()) / gamma
            new = x - torch.linalg.solve(hess + ridge * torch.eye(2, dtype=torch.float64), g)
            if value - f(new) >= torch.func.grad(f)(new).square().sum() / (8 * ridge):
                x, gamma = new, 2 * gamma
                break
            gamma /= 2
        optimizer.step(lambda: f(weight))
        torch.testing.assert_close(weight.detach(), x, rtol=1e-9, atol=1e-12)
    assert optimizer.effort["tried"] == tried


def test_super_universal_steps_are_those_of_the_algorithm():
    f, weight = bowl, start((1.5, -0.7))
    x, scale = weight.detach().clone(), 1.0
    optimizer = SuperUniversalNewton([weight], alpha=0.8)
    for _ in range(12):
        _, g, hess = derivatives(f, x)
        while True:
            ridge = scale * float(g.norm()) ** 0.8
            new = x - torch.linalg.solve(hess + ridge * torch.eye(2, dtype=torch.float64), g)
            slope = torch.func.grad(f)(new)
            if slope @ (x - new) >= slope.square().sum() / (4 * ridge):
                x, scale = new, max(scale / 4, 1e-5)
                break
            scale *= 4
        optimizer.step(lambda: f(weight))
        torch.testing.assert_close(weight.detach(), x, rtol=1e-9, atol=1e-12)


def test_a_cubic_step_is_the_least_value_of_its_model():
    """By scipy, from the ends of a grid; with a Hessian that is not positive definite."""
    f, weight = rosenbrock, start((0.1, 1.0))
    x = weight.detach().clone()
    _, g, hess = derivatives(f, x)
    assert torch.linalg.eigvalsh(hess)[0] < 0
    optimizer = CubicNewton([weight], scale=200.0)

    def model(h):
        h = torch.as_tensor(h)
        return float(g @ h + 0.5 * h @ hess @ h + 200 / 6 * h.norm() ** 3)

    found = min(
        (minimize(model, at, tol=1e-14) for at in np.array([(1.0, 1), (-1, 1), (1, -1), (-1, -1)])), key=lambda r: r.fun
    )
    optimizer.step(lambda: f(weight))
    assert optimizer.param_groups[0]["tried"] == 1
    np.testing.assert_allclose((weight.detach() - x).numpy(), found.x, atol=1e-6)


def test_a_searched_gradient_falls_by_what_it_promises():
    f, weight = bowl, start((1.5, -0.7))
    x, smoothness = weight.detach().clone(), 1.0
    optimizer = SearchedGradient([weight])
    for _ in range(12):
        value, g, _ = derivatives(f, x)
        while f(x - g / smoothness) > value - g @ g / (2 * smoothness):
            smoothness *= 2
        x, smoothness = x - g / smoothness, smoothness / 2
        optimizer.step(lambda: f(weight))
        torch.testing.assert_close(weight.detach(), x, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("kind", [CubicNewton, GradientNormalizedNewton, SuperUniversalNewton])
def test_a_small_regularisation_is_newtons_method(kind):
    """One step solves a quadratic."""
    matrix = torch.tensor([[3.0, 1.0], [1.0, 2.0]], dtype=torch.float64)
    weight = start((4.0, -2.0))
    optimizer = kind([weight], 1e12 if kind is GradientNormalizedNewton else 1e-12, 0.0)
    walked(optimizer, lambda w: 0.5 * w @ matrix @ w - w.sum(), weight, 1)
    torch.testing.assert_close(weight.detach(), torch.linalg.solve(matrix, torch.ones(2, dtype=torch.float64)))


@pytest.mark.parametrize("kind", [CubicNewton, GradientNormalizedNewton, SuperUniversalNewton])
def test_rosenbrock_is_solved(kind):
    """Not convex, and stationary at ones alone."""
    at = walked(kind([weight := start()]), rosenbrock, weight, 60)
    torch.testing.assert_close(at, torch.ones(2, dtype=torch.float64), atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_it_resumes_to_the_same_bits(kind):
    whole, half = start(), start()
    optimizer, first = kind([whole]), kind([half])
    walked(optimizer, rosenbrock, whole, 10)
    walked(first, rosenbrock, half, 4)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = kind([half])
    second.load_state_dict(torch.load(file, weights_only=True))
    walked(second, rosenbrock, half, 6)
    assert whole.equal(half)
    assert optimizer.state_dict()["param_groups"] == second.state_dict()["param_groups"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_search_in_vain_leaves_the_weights(kind):
    weight = start()
    before = weight.detach().clone()
    optimizer = kind([weight], tries=7)
    optimizer.keeps = lambda *arguments: torch.tensor(False)
    optimizer.step(lambda: rosenbrock(weight))
    assert weight.equal(before)
    assert optimizer.effort["tried"] == 7


@pytest.mark.parametrize("kind", KINDS)
def test_an_optimum_stays(kind):
    weight = start((1.0, 1.0))
    before = weight.detach().clone()
    kind([weight]).step(lambda: rosenbrock(weight))
    assert weight.equal(before)


def test_mistakes_say_what_would_do():
    weight = start()
    for arguments, what in (
        ({"gamma": 0.0}, "above 0"),
        ({"curvature": "diagonal"}, "hessian, gauss_newton"),
        ({"largest": 1}, r"optimizer\.largest=1"),
        ({"lr": 0.1}, "searched"),
    ):
        with pytest.raises(UserError, match=what):
            GradientNormalizedNewton([weight], **arguments)
    with pytest.raises(UserError, match="alpha"):
        SuperUniversalNewton([weight], alpha=0.0)
    with pytest.raises(UserError, match="one group"):
        GradientNormalizedNewton([{"params": [weight]}, {"params": [start()]}])
    with pytest.raises(UserError, match="network"):
        GradientNormalizedNewton([weight], curvature="fisher").step(lambda: rosenbrock(weight))
    with pytest.raises(UserError, match="approximate_hessian"):
        GradientNormalizedNewton([weight], curvature="own").step(lambda: rosenbrock(weight))
    with pytest.raises(UserError, match="not finite"):
        GradientNormalizedNewton([weight]).step(lambda: rosenbrock(weight) * math.nan)


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_are_not_trained_now_stay_and_count_for_nothing(kind):
    frozen, alone, both = start(), start((1.5, -0.7)), start((1.5, -0.7))
    frozen.requires_grad_(False)
    expected = walked(kind([alone]), rosenbrock, alone, 5)
    assert torch.equal(walked(kind([frozen, both]), rosenbrock, both, 5), expected)
    assert torch.equal(frozen, start())

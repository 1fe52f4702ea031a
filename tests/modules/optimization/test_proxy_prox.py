"""ProxyProx on quadratics: its map in closed form, its rate, and the batches that leave no noise at the anchor."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.proxy_prox import ProxyProx
from tests.modules.optimization.bilevel import LINEAR, classes

SPEC = DataSpec("made up", "vector", (4,), target="real")


def quadratic(curvature: torch.Tensor, w: torch.Tensor) -> Labelled:
    """Eight records whose loss with an intercept is (v - w)' curvature (v - w) / 2 + c^2 / 2, c the intercept."""
    root = torch.linalg.cholesky(curvature).T * 2.0
    x = torch.cat([root, -root])
    return Labelled(x, x @ w)


def learner(**arguments):
    torch.manual_seed(0)
    return ProxyProx(SPEC, net=LINEAR, **{"precise": True, **arguments})


def problem(scale=1.0, delta=0.1):
    """Curvatures A of f and A + Delta of h with |Delta| = delta, and their minimisers."""
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(4, 4, generator=draw, dtype=torch.float64))[0]
    values = torch.tensor([0.3, 0.5, 1.0, scale], dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    curvature = (turn * values) @ turn.T
    other = curvature + delta * (turn * signs) @ turn.T
    w, v = torch.randn(2, 4, generator=draw, dtype=torch.float64)
    return curvature, other, w, v


def solved(method, proxy):
    """Weights that minimise the method's loss on all of the proxy, by one step of Newton's."""
    start = torch.nn.utils.parameters_to_vector(method.net.parameters()).detach()

    change = method.slope - method.gradient(proxy, method.anchor)

    def total(y):
        away = y - method.anchor
        turn = change @ away
        return method.mean_loss(proxy, y) + turn + away.square().sum() / (2 * method.eta)

    slope, hessian = torch.func.grad(total)(start), torch.func.hessian(total)(start)
    return start - torch.linalg.solve(hessian, slope)


def rounds(method, objective, proxy, n):
    """n outer iterations, each solved exactly -> the weights of each (n + 1, 4)."""
    path = []
    for _ in range(n + 1):
        weights = torch.nn.utils.parameters_to_vector(method.net.parameters()).detach()
        path.append(weights[:4].clone())
        method.anchor.copy_(weights)
        method.slope.copy_(method.gradient(objective, weights))
        torch.nn.utils.vector_to_parameters(solved(method, proxy), method.net.parameters())
    return torch.stack(path)


def test_an_iteration_is_its_linear_map():
    """w+ - w* = (I - (H + 1 / eta)^-1 A) (w - w*): the proxy's minimiser has no part in it."""
    curvature, other, w, v = problem()
    method = learner(eta=3.0)
    path = rounds(method, quadratic(curvature, w), quadratic(other, v), 3)
    eye = torch.eye(4, dtype=torch.float64)
    step = eye - torch.linalg.solve(other + eye / 3.0, curvature)
    for before, after in pairwise(path):
        torch.testing.assert_close(after - w, step @ (before - w), rtol=1e-9, atol=1e-12)


def test_the_number_of_iterations_follows_delta_and_not_the_smoothness_of_the_objective():
    def needed(scale, delta):
        curvature, other, w, v = problem(scale, delta)
        path = rounds(learner(eta=1 / delta), quadratic(curvature, w), quadratic(other, v), 60)
        away = (path - w).norm(dim=1)
        return int((away > 1e-6 * away[0]).sum())

    assert abs(needed(1.0, 0.05) - needed(100.0, 0.05)) <= 1
    assert needed(1.0, 0.2) / needed(1.0, 0.05) > 1.5
    assert needed(1.0, 0.05) < 10


def test_the_gradient_of_a_step_is_that_of_the_subproblem():
    method = learner(eta=2.0)
    curvature, other, w, v = problem()
    objective, proxy = quadratic(curvature, w), quadratic(other, v)
    start = torch.linspace(-1, 1, 5, dtype=torch.float64)
    method.anchor.copy_(start)
    method.slope.copy_(method.gradient(objective, start))
    here = torch.linspace(2, 0, 5, dtype=torch.float64)
    torch.nn.utils.vector_to_parameters(here.clone(), method.net.parameters())
    torch.stack(tuple(method.loss(proxy).values())).sum().backward()
    found = torch.cat([weight.grad.flatten() for weight in method.net.parameters()])
    f = torch.cat([curvature @ (start[:4] - w), start[4:]])
    expected = f + torch.cat([other @ (here - start)[:4], (here - start)[4:]]) + (here - start) / 2.0
    torch.testing.assert_close(found, expected)


def test_at_the_anchor_a_batch_of_the_proxy_adds_no_noise():
    method = ProxyProx(
        DataSpec("made up", "vector", (4,), target="class", classes=("a", "b", "c")),
        net={"_target_": "modules.networks.mlp.MLP", "width": 5, "depth": 2},
        precise=True,
    )
    method.slope.copy_(torch.linspace(-1, 1, len(method.slope)))
    for seed in (0, 1):
        method.zero_grad()
        torch.stack(tuple(method.loss(classes(6, seed)).values())).sum().backward()
        found = torch.cat([weight.grad.flatten() for weight in method.net.parameters()])
        torch.testing.assert_close(found, method.slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("rule", ["objective", "proxy"])
def test_baselines_are_plain_descent(rule):
    method, batch = learner(rule=rule), quadratic(*problem()[::2])
    torch.testing.assert_close(method.loss(batch), 0.5 * (method.net(batch.x)[:, 0] - batch.y).square().mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rule": "both"}, r"model\.rule=both"),
        ({"eta": 0.0}, r"model\.eta=0\.0"),
        ({"inner": 0}, "inner=0"),
        ({"objective_batch": 0}, "objective_batch=0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        learner(**arguments)

"""Problems of two levels: closed forms against other ways to the same numbers."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.spec import DataSpec
from modules.networks.linear import Linear
from modules.optimization.implicit_hypergradient import ImplicitHypergradient
from modules.optimization.problems import Decays, Reweighting
from tests.modules.optimization.bilevel import classes, decays, real, weights

SPEC = DataSpec("made up", "vector", (4,), target="real")


def optimum(problem, x, lower, upper, several):
    """The upper loss of the best lower solution, by Newton's steps on g, or on g + tiny F where g has several."""
    q = 5
    y = torch.zeros(q, dtype=torch.float64)

    def h(y):
        named = {"last.weight": y[None, :4], "last.bias": y[4:]}
        value = problem.lower(x, named, lower)
        return value + (1e-7 * problem.upper(x, named, upper) if several else 0)

    for _ in range(3):
        slope, curvature = torch.func.grad(h)(y), torch.func.hessian(h)(y)
        y = y - torch.linalg.solve(curvature, slope)
    return problem.upper(x, {"last.weight": y[None, :4], "last.bias": y[4:]}, upper)


@pytest.mark.parametrize("seen", [None, 2])
def test_the_closed_form_is_what_newton_finds_and_its_gradient_that_of_finite_differences(seen):
    problem = Decays(SPEC, Linear((4,), (1,)).double(), start=-1.0, seen=seen)
    lower, upper = real(20, 0), real(15, 1)
    x = torch.linspace(-2, 0, problem.seen, dtype=torch.float64)
    found = problem.solution(x, lower, upper)
    torch.testing.assert_close(found.value, optimum(problem, x, lower, upper, seen is not None), rtol=1e-6, atol=0)
    steps = 1e-5 * torch.eye(len(x), dtype=torch.float64)
    ends = [[problem.solution(x + sign * step, lower, upper).value for sign in (1, -1)] for step in steps]
    differences = torch.stack([(high - low) / 2e-5 for high, low in ends])
    torch.testing.assert_close(found.gradient, differences, rtol=1e-6, atol=1e-9)


def test_features_that_training_lacks_have_no_decay_and_the_least_upper_loss():
    problem = Decays(SPEC, Linear((4,), (1,)).double(), seen=2)
    lower, upper = real(20, 0), real(15, 1)
    y = problem.solution(problem.start().double(), lower, upper).y
    free = torch.tensor([2, 3])
    named = {"last.weight": y[None, :4].clone().requires_grad_(), "last.bias": y[4:]}
    slope = torch.autograd.grad(problem.upper(problem.start(), named, upper), named["last.weight"])[0][0]
    torch.testing.assert_close(slope[free], torch.zeros(2, dtype=torch.float64), atol=1e-12, rtol=0)


def test_source_weights_in_the_loss_are_those_worked_out_by_hand():
    batch = classes(7, 0, sources=3)
    for law, by_hand in (
        ("softmax", lambda w, losses: sum(w[s] * losses[batch.source == s].mean() for s in range(3))),
        ("sigmoid", lambda w, losses: sum(w[s] * losses[batch.source == s].sum() for s in range(3)) / 7),
    ):
        method = weights(ImplicitHypergradient, sources=3, problem={"law": law, "decay": 0.2})
        x = torch.tensor([0.3, -1.0, 2.0], dtype=torch.float64)
        named = {name: torch.randn_like(w) for name, w in method.net.named_parameters()}
        losses = torch.nn.functional.cross_entropy(
            batch.x @ named["last.weight"].T + named["last.bias"], batch.y, reduction="none"
        )
        w = x.softmax(0) if law == "softmax" else x.sigmoid()
        penalty = 0.1 * sum(weight.square().sum() for weight in named.values())
        torch.testing.assert_close(method.problem.lower(x, named, batch), by_hand(w, losses) + penalty)
        torch.testing.assert_close(method.problem.source_weights(x), w / w.sum())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seen": 5}, r"model\.problem\.seen=5"),
        ({"start": 1.0}, r"start=1\.0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        decays(ImplicitHypergradient, problem=arguments)


def test_reweighting_needs_sources_and_a_known_law():
    with pytest.raises(UserError, match="needs to know where records come from"):
        Reweighting(SPEC, Linear((4,), (1,)))
    with pytest.raises(UserError, match=r"model\.problem\.law=max"):
        weights(ImplicitHypergradient, problem={"law": "max"})
    with pytest.raises(UserError, match=r"decay=-1\.0"):
        weights(ImplicitHypergradient, problem={"decay": -1.0})

"""ScaleBiO: its gradients against the minimax objective's, its limit in alpha, and its blocks."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.scalebio import ScaleBiO
from tests.modules.optimization.bilevel import classes, weights

DEEP = {"_target_": "modules.networks.mlp.MLP", "width": 6, "depth": 4}
SOFTMAX = {"law": "softmax", "decay": 0.2}


def parted(method):
    """w and u apart from each other."""
    with torch.no_grad():
        for weight in method.twin.parameters():
            weight.add_(0.3 * torch.randn_like(weight))
    return method


def test_gradients_are_of_the_minimax_objective_and_u_goes_the_other_way():
    method, batch = parted(weights(ScaleBiO, problem=SOFTMAX, alpha=3.0, net=DEEP)), classes(20, 0)
    torch.stack(tuple(method.loss(batch).values())).sum().backward()
    x = method.x.detach().clone().requires_grad_()
    w, u = (
        {name: value.detach().clone().requires_grad_() for name, value in net.named_parameters()}
        for net in (method.net, method.twin)
    )

    def g(y):
        out = torch.func.functional_call(method.net, y, (batch.x,))
        losses = torch.nn.functional.cross_entropy(out, batch.y, reduction="none")
        means = torch.stack([losses[batch.source == s].mean() for s in range(5)])
        return x.softmax(0) @ means + 0.1 * sum(value.square().sum() for value in y.values())

    upper = torch.nn.functional.cross_entropy(
        torch.func.functional_call(method.net, w, (method._upper.x,)), method._upper.y
    )
    objective = upper + 3.0 * (g(w) - g(u))
    by_x, *others = torch.autograd.grad(objective, [x, *w.values(), *u.values()])
    torch.testing.assert_close(method.x.grad, by_x)
    own = [*method.net.parameters(), *method.twin.parameters()]
    signs = [1.0] * len(w) + [-1.0] * len(u)
    for weight, sign, expected in zip(own, signs, others, strict=True):
        torch.testing.assert_close(weight.grad, sign * expected)
    with torch.no_grad():
        torch.testing.assert_close(method.hypergradient(method.x.detach(), batch), by_x)


def test_at_the_saddle_its_gradient_by_x_nears_the_implicit_one_as_alpha_grows():
    """w minimises F / alpha + g and u minimises g, by Newton's steps; the error is halved where alpha is doubled."""
    method, batch = weights(ScaleBiO, problem=SOFTMAX), classes(20, 0)
    x = method.x.detach()

    def g(y, x=x):
        return method.problem.lower(x, method.named(y), batch)

    def f(y):
        return method.problem.upper(x, method.named(y), method._upper)

    def minimiser(h):
        y = torch.zeros(15, dtype=torch.float64)
        for _ in range(12):
            y = y - torch.linalg.solve(torch.func.hessian(h)(y), torch.func.grad(h)(y))
        return y

    u = minimiser(g)
    cross = torch.func.jacrev(lambda x: torch.func.grad(g)(u, x))(x)
    exact = -cross.T @ torch.linalg.solve(torch.func.hessian(g)(u), torch.func.grad(f)(u))
    errors = []
    for alpha in (50.0, 100.0):
        method.alpha = alpha
        method.y = minimiser(lambda y, alpha=alpha: f(y) / alpha + g(y))
        torch.nn.utils.vector_to_parameters(u, method.twin.parameters())
        with torch.no_grad():
            errors.append(float((method.hypergradient(x, batch) - exact).norm()))
    assert errors[0] / errors[1] == pytest.approx(2.0, rel=0.1)
    assert errors[1] < 0.1 * float(exact.norm())


def test_as_many_layers_as_asked_for_are_trained_besides_the_first_and_the_last():
    method = weights(ScaleBiO, problem=SOFTMAX, net=DEEP, layers=1)
    assert [len(method.blocks(net)) for net in (method.net, method.twin)] == [3, 3]
    assert not method.frozen()
    seen = set()
    for step in range(20):
        method.draw(step)
        assert method.active.sum(1).tolist() == [1, 1]
        frozen = method.frozen()
        for net in (method.net, method.twin):
            outer = {*net.first.parameters(), *net.last.parameters()}
            assert not outer & frozen
            assert len({*net.parameters()} & frozen) == 4
        seen |= {tuple(row) for row in method.active.tolist()}
    assert len(seen) == 3


def test_without_learning_all_sources_weigh_the_same_and_nothing_of_the_twin_is_trained():
    method, batch = weights(ScaleBiO, problem=SOFTMAX, learn=False), classes(20, 0)
    value = torch.stack(tuple(method.loss(batch).values())).sum()
    value.backward()
    assert method.x.grad is None
    assert all(weight.grad is None for weight in method.twin.parameters())
    assert all(weight.grad is not None for weight in method.net.parameters())
    assert method.source_weights().tolist() == pytest.approx([0.2] * 5)


def test_weights_learn_at_so_many_times_the_rate_of_the_logits():
    method = weights(ScaleBiO, problem=SOFTMAX, ratio=0.25)
    groups = method.rated(method.parameters())
    assert [len(groups[scale]) for scale in (1.0, 0.25)] == [1, 4]
    assert groups[1.0][0] is method.x


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"alpha": 0.0}, r"model\.alpha=0\.0"),
        ({"ratio": 0.0}, r"ratio=0\.0"),
        ({"period": 0}, r"period=0"),
        ({"layers": 1}, r"model\.layers=1: the network has 0 layers"),
        ({"layers": 4, "net": DEEP}, r"model\.layers=4: the network has 3 layers"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        weights(ScaleBiO, problem=SOFTMAX, **arguments)

"""Equilibrium propagation: where it is backpropagation, the order of its nudges, and homeostasis without bias."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.equilibrium_propagation import EquilibriumPropagation, activation, asymmetry

SPEC = DataSpec("made up", "vector", (5,), target="class", classes=("a", "b", "c"))


def learner(**arguments):
    torch.manual_seed(2)
    defaults = {"width": 6, "free_steps": 150, "nudged_steps": 150, "homeostasis": 0.0}
    return EquilibriumPropagation(SPEC, **{**defaults, **arguments}).double()


def records(n=7):
    draw = torch.Generator().manual_seed(0)
    return Labelled(torch.randn(n, 5, generator=draw, dtype=torch.float64), torch.randint(3, (n,), generator=draw))


def gradients(method, batch):
    method.zero_grad()
    torch.stack(tuple(method.loss(batch).values())).sum().backward()
    return [p.grad.clone() for p in method.parameters()]


def through_time(method, batch):
    """Autograd through 150 steps of the dynamics, written out from the weights."""
    h1, h2, out = (torch.zeros(len(batch.y), size, dtype=torch.float64) for size in (6, 6, 3))
    up, top = method.forth
    down, back = [up.weight.T, top.weight.T] if method.back is None else [layer.weight for layer in method.back]
    for _ in range(150):
        s1, s2, so = (1 / (1 + torch.exp(2 - 4 * u)) for u in (h1, h2, out))
        h1, h2, out = method.inward(batch.x) + s2 @ down.T, up(s1) + so @ back.T, top(s2)
    logits = method.readout(1 / (1 + torch.exp(2 - 4 * out)))
    method.zero_grad()
    value = torch.nn.functional.cross_entropy(logits, batch.y)
    value.backward()
    return value, logits, [p.grad.clone() for p in method.parameters()]


@pytest.mark.parametrize(
    "arguments", [{"errors": "adjoint"}, {"errors": "adjoint", "tied": True}, {"tied": True, "phases": 0}]
)
def test_the_gradient_is_backpropagation_through_the_dynamics(arguments):
    """Always by the adjoint, and by the response to small nudges where weights are symmetric."""
    method, batch = learner(**arguments), records()
    value, logits, expected = through_time(method, batch)
    for found, wanted in zip(gradients(method, batch), expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-8, atol=1e-12)
    torch.testing.assert_close(method.loss(batch)["cross_entropy"], value)
    torch.testing.assert_close(method.predict_log_proba(batch.x), logits.float().log_softmax(1))


def test_without_symmetry_small_nudges_are_biased_and_the_cosine_says_so():
    batch = records()
    free, tied = learner(phases=0), learner(phases=0, tied=True)
    expected = through_time(free, batch)[2]
    found = gradients(free, batch)
    assert any(not torch.allclose(one, other, rtol=1e-3, atol=1e-6) for one, other in zip(found, expected, strict=True))
    assert free.alignment(*batch)[:, 0].mean() < 0.9
    torch.testing.assert_close(tied.alignment(*batch), torch.ones(7, 3, dtype=torch.float64))


@pytest.mark.parametrize("phases", [1, 2, 3, 4, 6])
def test_the_error_of_n_phases_falls_with_the_nth_power_of_the_nudge(phases):
    batch = records()

    def off(beta):
        method = learner(phases=phases, beta=beta)
        R, drive = method.recurrent(), method.drive(batch.x)
        u = method.settle(R, drive, torch.zeros_like(drive), 150)
        target = torch.eye(3, dtype=torch.float64)[batch.y]
        s = activation(u)
        return float((method.nudged(R, drive, u, target) - method.response(R, s, method.slope(s, target))).norm())

    with torch.no_grad():
        assert off(0.2) / off(0.1) == pytest.approx(2**phases, rel=0.25)


def test_homeostasis_is_unbiased_and_points_to_symmetry():
    R = torch.randn(6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    torch.manual_seed(0)
    estimate = asymmetry(R, 400_000)
    exact = (R - R.T).square().sum() / 12
    torch.testing.assert_close(estimate, exact, rtol=0.01, atol=0)
    found, wanted = (torch.autograd.grad(value, R)[0] for value in (estimate, exact))
    torch.testing.assert_close(found, wanted, rtol=0.05, atol=0.02)
    symmetric = (R + R.T).detach()
    assert abs(float(asymmetry(symmetric, 10))) < 1e-12


def test_the_penalty_is_added_to_untied_weights_alone():
    batch = records()
    assert set(learner(homeostasis=2.0).loss(batch)) == {"cross_entropy", "homeostasis"}
    assert set(learner(homeostasis=2.0, tied=True).loss(batch)) == {"cross_entropy"}
    torch.manual_seed(9)
    one = learner(homeostasis=2.0)
    torch.manual_seed(9)
    expected = 2 * asymmetry(one.recurrent(), 64)
    torch.manual_seed(9)
    torch.testing.assert_close(one.loss(batch)["homeostasis"], expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"errors": "hebb"}, r"model\.errors=hebb"),
        ({"phases": -1}, "phases=-1"),
        ({"beta": 0.0}, r"beta=0\.0"),
        ({"depth": 0}, "depth=0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        learner(**arguments)

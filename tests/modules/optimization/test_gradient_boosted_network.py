"""Gradient boosted networks: the closed form where blocks are linear, the Newton step, and the parts of the whole."""

from __future__ import annotations

import io

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.gradient_boosted_network import GradientBoostedNetwork

N = 40
CLASSES = DataSpec("made up", "vector", (4,), target="class", classes=("a", "b", "c"), sizes={"train": N})
REAL = DataSpec("made up", "vector", (4,), target="real", sizes={"train": N})


def records(spec):
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(N, 4, generator=draw)
    if spec.classes:
        return Labelled(x, torch.randint(3, (N,), generator=draw))
    return Labelled(x, 50 + 7 * x[:, 0] - 3 * x[:, 1] ** 2 + torch.randn(N, generator=draw))


def learner(spec, **arguments):
    torch.manual_seed(1)
    return GradientBoostedNetwork(spec, **{"blocks": 4, "units": 3, "iterations": 20, **arguments})


def boosted(method, batch, passes=4):
    with torch.no_grad():
        for _ in range(passes):
            for part in (slice(0, 25), slice(25, N)):
                method.accumulate(Labelled(batch.x[part], batch.y[part]))
            method.solve()
    return method


@pytest.mark.parametrize("passes", [1, 3])
def test_linear_blocks_go_to_least_squares_at_the_rate_of_the_shrinkage(passes):
    """F_t = mean + (1 - (1 - shrinkage)^t) (least squares - mean)."""
    batch = records(REAL)
    arguments = {"activation": "identity", "decay": 0.0, "subsample": 1.0, "shrinkage": 0.4, "iterations": 500}
    method = boosted(learner(REAL, **arguments), batch, passes)
    x, y = batch.x.double(), batch.y.double()
    wide = torch.cat([x, torch.ones(N, 1, dtype=torch.float64)], 1)
    least = wide @ torch.linalg.lstsq(wide, y[:, None]).solution[:, 0]
    expected = y.mean() + (1 - 0.6**passes) * (least - y.mean())
    law = method.predict_distribution(batch.x)
    torch.testing.assert_close(law.mean, expected, rtol=1e-4, atol=1e-3)
    assert float(law.stddev[0]) == pytest.approx(float((y - expected).square().mean().sqrt()), rel=1e-3)


def test_pseudo_residuals_and_the_newton_step_are_those_of_autograd(monkeypatch):
    """rho = -sum of g dL/dF over sum of g^2 d2L/dF2, at F of the blocks before."""
    batch = records(CLASSES)
    method = boosted(learner(CLASSES, shrinkage=0.7), batch, passes=2)
    x, before = batch.x.double(), method.score(batch.x.double()).detach()
    seen = []

    def fixed(self, x, residual, draw):
        seen.append((x, residual))
        return [weight.clone() for weight in fixed.weights]

    draw = torch.Generator().manual_seed(3)
    fixed.weights = [torch.randn(s, generator=draw, dtype=torch.float64) for s in ((4, 3), (3,), (3, 3), (3,))]
    monkeypatch.setattr(GradientBoostedNetwork, "fit_block", fixed)
    boosted(method, batch, passes=1)

    def loss(F):
        return torch.nn.functional.cross_entropy(F, batch.y, reduction="sum")

    F = before.clone().requires_grad_()
    (slope,) = torch.autograd.grad(loss(F), F, create_graph=True)
    bends = [torch.autograd.grad(slope[:, k].sum(), F, retain_graph=True)[0][:, k] for k in range(3)]
    slope, bend = slope.detach(), torch.stack(bends, 1)
    w1, b1, w2, b2 = fixed.weights
    g = torch.sigmoid(x @ w1 + b1) @ w2 + b2
    rho = -(g * slope).sum() / (g.square() * bend).sum()
    torch.testing.assert_close(method.score(x), before + 0.7 * rho * g, rtol=1e-9, atol=1e-9)
    (part, residual) = seen[0]
    rows = [int((x == row).all(1).nonzero()[0]) for row in part]
    assert len(set(rows)) == N // 2
    torch.testing.assert_close(residual, -slope[rows], rtol=1e-9, atol=1e-12)


def test_the_first_constant_is_a_minimum():
    batch = records(CLASSES)
    method = learner(CLASSES)
    method.begin(batch.y)
    constant = method.constant.clone().requires_grad_()
    value = torch.nn.functional.cross_entropy(constant.expand(N, 3), batch.y)
    torch.testing.assert_close(torch.autograd.grad(value, constant)[0], torch.zeros(3, dtype=torch.float64))


@pytest.mark.parametrize("keep", [None, 1, 3])
def test_the_network_is_the_sum_of_its_first_blocks(keep):
    batch = records(CLASSES)
    method = boosted(learner(CLASSES, keep=keep), batch)
    x = batch.x.double()
    expected = method.constant.expand(N, 3)
    for block in range(4 if keep is None else keep):
        place = slice(3 * block, 3 * block + 3)
        hidden = torch.sigmoid(x @ method.inward[:, place] + method.inward_bias[place])
        expected = expected + hidden @ method.outward[place] + method.biases[block]
    torch.testing.assert_close(method.network()(x).detach(), expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(method.predict_log_proba(batch.x), expected.log_softmax(1), rtol=1e-12, atol=1e-12)


def test_continues_in_the_middle_of_a_pass_to_the_same_bits():
    batch = records(CLASSES)
    whole, first = boosted(learner(CLASSES), batch, 3), boosted(learner(CLASSES), batch, 1)
    first.accumulate(Labelled(batch.x[:25], batch.y[:25]))
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    torch.manual_seed(77)
    second = GradientBoostedNetwork(CLASSES, blocks=4, units=3, iterations=20)
    second.load_state_dict(torch.load(file, weights_only=True))
    with torch.no_grad():
        second.accumulate(Labelled(batch.x[25:], batch.y[25:]))
        second.solve()
    boosted(second, batch, 1)
    for name, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


def test_more_passes_than_blocks_change_nothing():
    batch = records(REAL)
    method = boosted(learner(REAL), batch)
    before = method.predict_distribution(batch.x).mean
    assert torch.equal(boosted(method, batch, 1).predict_distribution(batch.x).mean, before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"blocks": 0}, r"model\.blocks=0"),
        ({"shrinkage": 0.0}, r"model\.shrinkage=0"),
        ({"subsample": 1.5}, r"model\.subsample=1\.5"),
        ({"activation": "cos"}, r"model\.activation=cos"),
        ({"keep": 5}, r"model\.keep=5"),
        ({"keep": 0}, r"model\.keep=0"),
    ],
)
def test_values_out_of_range_are_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        learner(CLASSES, **arguments)

"""NoProp's coefficients from conditioning Gaussians, its ways with a perfect guess, and who learns from what."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.optimization.noprop import NoProp, angles, coefficients, probability_flow

SPEC = DataSpec("made up", "vector", (5,), target="class", classes=("a", "b", "c"))
STEPS = 6


def bars(steps=STEPS):
    return [math.cos(math.pi / 2 * (steps + 1 - t) / (steps + 1)) ** 2 for t in range(steps + 1)]


def learner(**arguments):
    torch.manual_seed(5)
    return NoProp(SPEC, **{"steps": STEPS, "width": 8, **arguments})


def records(n=9):
    draw = torch.Generator().manual_seed(0)
    return Labelled(torch.randn(n, 5, generator=draw), torch.randint(3, (n,), generator=draw))


def test_coefficients_and_weights_are_those_of_conditioned_gaussians():
    """q(z_{t-1} | z_t) = N(sqrt(alpha) z_t, 1 - alpha) and q(z_t | u) = N(sqrt(bar) u, 1 - bar), turned around: the
    mean of z_t given z_{t-1} and u is a u + b z_{t-1}, its variance c. A guess that is off by d costs a
    Kullback-Leibler divergence of (a d)^2 / 2c, which is half the rise of the signal-to-noise ratio times d^2."""
    bar, (a, b, c, weight) = bars(), coefficients(STEPS)
    for t in range(1, STEPS + 1):
        after, alpha = bar[t], bar[t - 1] / bar[t]
        variance = alpha * (1 - after) + 1 - alpha  # of z_{t-1} given u
        gain = math.sqrt(alpha) * (1 - after) / variance
        mean_u = math.sqrt(after) - gain * math.sqrt(alpha) * math.sqrt(after)
        assert float(b[t - 1]) == pytest.approx(gain, abs=1e-12)
        assert float(a[t - 1]) == pytest.approx(mean_u, abs=1e-12)
        assert float(c[t - 1]) == pytest.approx((1 - after) - gain**2 * variance, abs=1e-12)
        assert float(weight[t - 1] / 2) == pytest.approx(float(a[t - 1] ** 2 / (2 * c[t - 1])), rel=1e-12)


def test_with_a_perfect_guess_the_last_state_has_the_law_it_learned_from():
    a, b, c, _ = coefficients(STEPS)
    mean, variance = 0.0, 1.0
    for step in range(STEPS):
        mean, variance = float(a[step] + b[step] * mean), float(b[step] ** 2 * variance + c[step])
    assert mean == pytest.approx(math.sqrt(bars()[-1]), rel=1e-12)
    assert variance == pytest.approx(1 - bars()[-1], rel=1e-12)


def test_the_flow_of_a_perfect_guess_keeps_its_noise():
    """z = cos(phi) u + sin(phi) eps solves the equation; Euler's error halves with twice the steps."""
    u, eps = torch.randn(2, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    phi = angles(torch.ones(1, dtype=torch.float64), STEPS)
    errors = []
    for steps in (200, 400):
        z = eps.clone()
        for step in range(steps):
            z = z + probability_flow(u, z, step / steps, STEPS) / steps
        errors.append(float((z - phi.cos() * u - phi.sin() * eps).norm()))
    assert errors[1] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, rel=0.05)


def test_the_weight_in_continuous_time_is_the_slope_of_the_ratio():
    t = torch.linspace(0.05, 0.95, 7, dtype=torch.float64)
    phi, h = angles(t, STEPS), 1e-6
    slope = math.pi * STEPS / (STEPS + 1) * phi.cos() / phi.sin() ** 3
    ratio = [angles(t + s, STEPS).tan() ** -2 for s in (-h, h)]
    torch.testing.assert_close(slope, (ratio[1] - ratio[0]) / (2 * h), rtol=1e-6, atol=1e-8)


def test_the_loss_is_the_sum_over_blocks_written_out(monkeypatch):
    """With noise of zero and embeddings of dimension 2."""
    method, batch = learner(embedding=2).double(), records()
    monkeypatch.setattr(torch, "randn_like", torch.zeros_like)
    x, u, bar = batch.x.double(), method.embeddings[batch.y], bars()
    denoising = 0.0
    for t in range(1, STEPS + 1):
        h = torch.cat([x, math.sqrt(bar[t - 1]) * u], 1)
        for place, (weight, bias) in enumerate(zip(method.blocks.weights, method.blocks.biases, strict=True)):
            h = h @ weight[t - 1] + bias[t - 1]
            h = h * torch.sigmoid(h) if place < 2 else h
        rise = bar[t] / (1 - bar[t]) - bar[t - 1] / (1 - bar[t - 1])
        denoising = denoising + 0.05 * rise * (h.softmax(1) @ method.embeddings - u).square().sum(1).mean()
    terms = method.loss(Labelled(x, batch.y))
    torch.testing.assert_close(terms["denoising"], denoising, rtol=1e-5, atol=1e-6)  # weights are kept in float32
    logits = method.last(math.sqrt(bar[-1]) * u)
    torch.testing.assert_close(terms["cross_entropy"], torch.nn.functional.cross_entropy(logits, batch.y))


def test_a_block_learns_from_its_own_term_alone():
    """Other weights in the other blocks change nothing of a block's gradient; they do in backpropagation."""
    for rule, local in (("local", True), ("backprop", False)):
        found = []
        for change in (0.0, 0.5):
            method = learner(rule=rule)
            for weight in method.blocks.weights:
                weight.data[1:] += change
            torch.manual_seed(0)
            loss = method.loss(records())
            (loss if rule == "backprop" else loss["denoising"] + loss["cross_entropy"]).backward()
            found.append(method.blocks.weights[0].grad[0])
        assert torch.equal(*found) == local


@pytest.mark.parametrize("variant", ["continuous", "flow"])
def test_other_variants_reach_every_weight_and_classify(variant):
    method, batch = learner(variant=variant, embedding=4), records()
    torch.stack(tuple(method.loss(batch).values())).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in method.parameters())
    log_proba = method.predict_log_proba(batch.x)
    torch.testing.assert_close(log_proba.exp().sum(1), torch.ones(9))


def test_a_straight_flow_arrives_in_any_number_of_steps(monkeypatch):
    method, batch = learner(variant="flow"), records()
    torch.manual_seed(1)
    start = torch.randn(9, 3)
    monkeypatch.setattr(
        type(method.blocks), "forward", lambda self, x, z, t: (method.embeddings[batch.y] - start)[None]
    )
    torch.manual_seed(1)
    torch.testing.assert_close(method.through(batch.x), method.embeddings[batch.y], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "quantum"}, r"model\.variant=quantum"),
        ({"rule": "hebb"}, r"model\.rule=hebb"),
        ({"rule": "backprop", "variant": "flow"}, r"model\.rule=backprop"),
        ({"steps": 0}, r"model\.steps=0"),
        ({"eta": 0.0}, r"model\.eta=0"),
    ],
)
def test_what_does_not_fit_is_refused(arguments, message):
    with pytest.raises(UserError, match=message):
        learner(**arguments)

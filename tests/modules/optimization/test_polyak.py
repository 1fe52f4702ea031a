"""Polyak's step with momentum against its formulas written out, values by hand, and conjugate gradients' problem."""

from __future__ import annotations

import io

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.polyak import Polyak

CURVES = torch.tensor([1.0, 0.1, 0.01], dtype=torch.float64)


def problem(dtype=torch.float64):
    """Two tensors whose loss is a quadratic with the least value 0, at 0."""
    weights = [
        torch.nn.Parameter(torch.tensor([3.0, -2.0], dtype=dtype)),
        torch.nn.Parameter(torch.ones(1, dtype=dtype)),
    ]

    def loss():
        for weight in weights:
            weight.grad = None
        value = 0.5 * (CURVES.to(dtype) * torch.cat(list(weights)).square()).sum()
        value.backward()
        return value.detach()

    return weights, loss


def walk(optimizer, loss, steps):
    return [float(optimizer.step(loss)) for _ in range(steps)]


@pytest.mark.parametrize("beta", [0.0, 0.9])
def test_mag_is_its_formula_written_out(beta):
    weights, loss = problem()
    x, d = torch.cat(list(weights)).detach().clone(), torch.zeros(3, dtype=torch.float64)
    optimizer = Polyak(weights, lr=0.7, beta=beta, c=0.5, lower=-0.1)
    for _ in range(12):
        g, f = CURVES * x, float(0.5 * (CURVES * x**2).sum())
        d = g + beta * d
        x = x - min((f + 0.1) / (0.5 * float(d @ d)), 0.7) * d
        optimizer.step(loss)
        torch.testing.assert_close(torch.cat(list(weights)), x, rtol=1e-12, atol=1e-12)


def test_heavy_ball_is_its_formula_written_out():
    weights, loss = problem()
    x = torch.cat(list(weights)).detach().clone()
    before = x.clone()
    optimizer = Polyak(weights, lr=float("inf"), form="heavy_ball", beta=0.8)
    for _ in range(12):
        g, f = CURVES * x, float(0.5 * (CURVES * x**2).sum())
        eta = max(f + 0.8 * float(g @ (x - before)), 0.0) / float(g @ g)
        x, before = x - eta * g + 0.8 * (x - before), x
        optimizer.step(loss)
        torch.testing.assert_close(torch.cat(list(weights)), x, rtol=1e-12, atol=1e-12)


def test_where_the_bound_is_exact_heavy_ball_lands_on_the_optimum():
    """f = 2 |x|: f - f* is <g, x - x*>, so that from wherever momentum has led one step ends at 0."""
    weight = torch.nn.Parameter(torch.tensor(5.0, dtype=torch.float64))

    def loss():
        weight.grad = None
        (value := 2 * weight.abs()).backward()
        return value.detach()

    optimizer = Polyak([weight], lr=0.4, form="heavy_ball", beta=0.5)
    walk(optimizer, loss, 3)  # the cap holds it back: 4.2, then 3.4 - 0.4, then 1.6
    assert weight.item() == pytest.approx(5 - 0.8 - 1.2 - 1.4)
    optimizer.param_groups[0]["lr"] = 10.0
    walk(optimizer, loss, 1)
    assert weight.item() == pytest.approx(0.0, abs=1e-12)


def test_mag_on_the_same_by_hand():
    """d = 1, 1.5: x = 6 -> 6 - 6/1 = 0 without a cap; with lr 2 6 -> 4 -> 4 - (4 / 2.25) 1.5 = 4/3."""
    weight = torch.nn.Parameter(torch.tensor(6.0, dtype=torch.float64))

    def loss():
        weight.grad = None
        (value := weight.abs()).backward()
        return value.detach()

    walk(Polyak([weight], lr=2.0, beta=0.5), loss, 2)
    assert weight.item() == pytest.approx(4 / 3)


def test_nothing_to_move_along_moves_nothing():
    weight = torch.nn.Parameter(torch.zeros(2))

    def loss():
        weight.grad = torch.zeros(2)
        return torch.tensor(1.0)

    for form in ("mag", "heavy_ball"):
        walk(Polyak([weight], form=form), loss, 2)
    assert torch.equal(weight, torch.zeros(2))


@pytest.mark.parametrize("form", ["mag", "heavy_ball"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_continues_from_its_state_to_the_same_bits(form, dtype):
    whole, loss_of_whole = problem(dtype)
    half, loss_of_half = problem(dtype)
    walk(Polyak(whole, form=form), loss_of_whole, 20)
    first = Polyak(half, form=form)
    walk(first, loss_of_half, 9)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = Polyak(half, form=form)
    second.load_state_dict(torch.load(file, weights_only=True))
    walk(second, loss_of_half, 11)
    for one, other in zip(whole, half, strict=True):
        assert torch.equal(one, other)
    assert all(state["momentum"].dtype == torch.float32 for state in second.state.values())


@pytest.mark.parametrize("arguments", [{"form": "nesterov"}, {"lr": 0.0}, {"c": 0.0}, {"beta": 1.0}])
def test_what_is_out_of_range_is_named(arguments):
    with pytest.raises(UserError, match=f"optimizer.{next(iter(arguments))}="):
        Polyak(problem()[0], **arguments)


def test_a_step_needs_the_loss():
    with pytest.raises(UserError, match="closure"):
        Polyak(problem()[0]).step()

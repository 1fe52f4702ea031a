"""Schedules against values worked out by hand."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from modules.optimization.schedules import cosine, inverse, inverse_sqrt, linear, step


def rates(schedule, steps, **arguments):
    """The rate that each of the steps is made with, and the one after the last."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    scheduler = schedule(optimizer, steps, **arguments)
    seen = []
    for _ in range(steps + 1):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return seen


def test_cosine_rises_and_falls():
    found = rates(cosine, 10, warmup=0.2, floor=0.1)
    expected = [1.0, 2.0] + [2 * (0.1 + 0.9 * (1 + math.cos(math.pi * k / 8)) / 2) for k in range(9)]
    assert found == pytest.approx(expected)


def test_linear_falls_to_the_floor():
    assert rates(linear, 4, warmup=0.0, floor=0.5) == pytest.approx([2.0, 1.75, 1.5, 1.25, 1.0])


def test_step_multiplies_at_its_shares():
    assert rates(step, 8, at=[0.5, 0.75], factor=0.1) == pytest.approx([2.0] * 4 + [0.2] * 2 + [0.02] * 3)


def test_inverse_and_its_root_fall_from_their_offset():
    """With the offset of a quarter, the rate at shares 0, 1/4, ... is over 1, 2, ...; after one step of warm-up."""
    shares = [1 / (1 + k) for k in range(5)]
    assert rates(inverse, 4, warmup=0.0, offset=0.25) == pytest.approx([2 * share for share in shares])
    assert rates(inverse_sqrt, 5, warmup=0.2, offset=0.25) == pytest.approx([2.0] + [2 * s**0.5 for s in shares])
    for schedule in (inverse, inverse_sqrt):
        with pytest.raises(UserError, match=r"schedule\.offset=0"):
            rates(schedule, 4, offset=0)


def test_shares_lie_between_zero_and_one():
    with pytest.raises(UserError, match=r"schedule\.at=3"):
        rates(step, 8, at=[3])
    with pytest.raises(UserError, match=r"schedule\.warmup=-1"):
        rates(cosine, 8, warmup=-1)

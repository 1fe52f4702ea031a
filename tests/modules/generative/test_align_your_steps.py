"""Align Your Steps, against the closed form of Gaussian data."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from scipy.integrate import quad
from scipy.optimize import minimize

from compendium.compose import compose
from compendium.errors import UserError
from datamodules.batches import Unlabelled
from datamodules.spec import DataSpec
from modules.generative.align_your_steps import AlignYourSteps
from tests.modules.generative.samplers.checkpoints import fitted

C = 0.7


def klub(low: float, high: float) -> float:
    """The integral for N(0, C^2), where the expectation is C^4 (1 / (C^2 + r^2) - 1 / (C^2 + h^2))."""
    return quad(lambda r: r**-3 * C**4 * (1 / (C**2 + r**2) - 1 / (C**2 + high**2)), low, high)[0]


def solved(steps: int, n: int = 4000, draws: int = 4000, **changes):
    torch.manual_seed(0)
    choices = ["model=generative/align_your_steps", f"model.timesteps.steps={steps}", "model.path.low=0.05"]
    values = compose([*choices, "model.path.high=5.0"]).values["model"]
    arguments = {key: value for key, value in values.items() if key != "_target_"} | {"draws": draws} | changes
    spec = DataSpec(name="gaussian", kind="vector", shape=(1,), sizes={"train": n})
    model = AlignYourSteps(spec, **arguments)
    x = C * torch.randn(n, 1)
    model.accumulate(Unlabelled((x - x.mean()) / x.std() * C))
    model.solve()
    return model


def test_the_loss_of_a_step_is_the_closed_form():
    model = solved(3, n=40_000, draws=40_000)
    low, high = torch.tensor([0.05, 0.3, 1.0]).double(), torch.tensor([0.3, 1.0, 5.0]).double()
    found = model.klub(low.log(), high.log(), model.rows)
    expected = torch.tensor([klub(*pair) for pair in zip(low.tolist(), high.tolist(), strict=True)]).double()
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)


def test_levels_are_as_good_as_those_of_an_independent_optimiser():
    """Four levels between fixed ends: scipy minimises the sum of the closed forms."""

    def total(logs):
        levels = [5.0, *sorted((math.exp(place) for place in logs), reverse=True), 0.05]
        return sum(klub(low, high) for high, low in pairwise(levels))

    model = solved(6, n=20_000, draws=20_000)
    start = model.timesteps.times(model.path)[1:-1].log().tolist()
    best = minimize(total, start, method="Nelder-Mead", options={"maxiter": 600}).fun
    assert total(model.grid[1:-1].log().tolist()) < 1.06 * best
    assert total(start) > 2 * best


def test_a_long_schedule_halves_the_steps_of_a_short_one_and_keeps_the_ends():
    times = solved(13, n=500, draws=100).grid
    assert len(times) == 13
    assert (times[0], times[-1]) == (5.0, 0.05)
    assert (times.diff() < 0).all()


def test_another_path_is_refused(tmp_path):
    _, path = fitted(torch.randn(50, 1), tmp_path)
    with pytest.raises(UserError, match="another path"):
        solved(4, n=50, model=path)
    with pytest.raises(UserError, match="candidates"):
        solved(4, n=50, candidates=2)

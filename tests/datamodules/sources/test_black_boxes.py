"""Black boxes: their values by hand and by the standard library, and the best ones by another solver."""

from __future__ import annotations

import math
import random

import pytest
import torch
from scipy.optimize import differential_evolution

from compendium.errors import UserError
from datamodules.sources.black_boxes import FUNCTIONS, BlackBox


def sine(x):
    return math.sin(math.pi * x) ** 2


REFERENCES = {
    "multi_optima": lambda x: math.sin(x[0]) * math.cos(5 * x[0]) * math.cos(22 * x[0]),
    "forrester": lambda x: -((6 * x[0] - 2) ** 2) * math.sin(12 * x[0] - 4),
    "levi_13": lambda x: (
        -sine(3 * x[0]) - (x[0] - 1) ** 2 * (1 + sine(3 * x[1])) - (x[1] - 1) ** 2 * (1 + sine(2 * x[1]))
    ),
    "branin": lambda x: (
        -((x[1] - 1.2918450914398066e-1 * x[0] ** 2 + 1.5915494309189535 * x[0] - 6) ** 2)
        - 9.602112642270262 * math.cos(x[0])
        - 10
    ),
    "ackley": lambda x: (
        20 * math.exp(-0.2 * math.hypot(*x) / math.sqrt(len(x)))
        + math.exp(sum(math.cos(2 * math.pi * one) for one in x) / len(x))
        - 20
        - math.exp(1)
    ),
    "rastrigin": lambda x: -sum(10 + one**2 - 10 * math.cos(2 * math.pi * one) for one in x),
}
BEST = {
    "multi_optima": [[1.8572285]],
    "forrester": [[0.7572488]],
    "levi_13": [[1.0, 1.0]],
    "branin": [[-math.pi, 12.275], [math.pi, 2.275], [3 * math.pi, 2.475]],
    "ackley": [[0.0, 0.0, 0.0]],
    "rastrigin": [[0.0, 0.0]],
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_the_formula_s(name):
    """Against the formulas written out for single points, in the standard library's arithmetic."""
    draw = random.Random(0)
    function = FUNCTIONS[name]
    box = function.box * (3 if function.any else 1)
    points = [[draw.uniform(*side) for side in box] for _ in range(20)]
    found = function.of(torch.tensor(points, dtype=torch.float64))
    assert found.tolist() == pytest.approx([REFERENCES[name](point) for point in points], rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_best_value_is_where_the_literature_has_it_and_no_solver_finds_a_better_one(name):
    function = FUNCTIONS[name]
    assert function.of(torch.tensor(BEST[name], dtype=torch.float64)).tolist() == pytest.approx(
        [function.optimum] * len(BEST[name]), abs=1e-5
    )
    box = function.box * len(BEST[name][0]) if function.any else function.box
    found = differential_evolution(lambda x: -REFERENCES[name](list(x)), box, rng=0, tol=1e-10, popsize=60)
    assert -found.fun == pytest.approx(function.optimum, abs=1e-6)


def test_published_best_values():
    """Of Branin's and Forrester's functions, which are minimised there."""
    assert FUNCTIONS["branin"].optimum == pytest.approx(-0.397887, abs=1e-6)
    assert FUNCTIONS["forrester"].optimum == pytest.approx(6.02074, abs=1e-5)


def test_points_fill_the_box_and_regret_is_what_a_value_lacks():
    records = BlackBox("branin", noise=0.3, train=4096, seed=3).load()
    x, y, mean, regret = (records.columns[name].double() for name in ("x", "y", "mean", "regret"))
    assert bool((x >= torch.tensor([-5.0, 0.0])).all())
    assert bool((x <= torch.tensor([10.0, 15.0])).all())
    # Each of 64 equal parts of the box has its share of a sequence of 4096 = 64 x 64 points.
    part = ((x[:4096] - torch.tensor([-5.0, 0.0])) / 15 * 8).long()
    assert torch.bincount(part[:, 0] * 8 + part[:, 1], minlength=64).tolist() == [64] * 64
    torch.testing.assert_close(mean, FUNCTIONS["branin"].of(x), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(regret, -0.397887 - mean, atol=1e-4, rtol=1e-5)
    assert float(regret.min()) >= 0
    assert float((y - mean).std()) == pytest.approx(0.3, rel=0.05)
    other = BlackBox("branin", noise=0.3, train=4096, seed=4).load().columns["x"]
    assert not torch.equal(other.double(), x)
    again = BlackBox("branin", noise=0.3, train=4096, seed=3).load().columns
    assert torch.equal(again["y"].double(), y)


def test_any_number_of_dimensions_where_the_function_has_it():
    assert BlackBox("ackley", dimensions=10, train=8).load().spec.shape == (10,)
    assert BlackBox("rastrigin", train=8).load().spec.shape == (2,)
    with pytest.raises(UserError, match=r"data\.dimensions=3: branin has 2"):
        BlackBox("branin", dimensions=3)
    with pytest.raises(UserError, match=r"data\.dimensions=0: ackley has 1 to"):
        BlackBox("ackley", dimensions=0)


def test_bad_values():
    with pytest.raises(UserError, match="levi_13"):
        BlackBox("levi_31")
    with pytest.raises(UserError, match=r"data\.noise=-1"):
        BlackBox(noise=-1.0)
    with pytest.raises(UserError, match=r"data\.train=0"):
        BlackBox(train=0)

"""Worst cases over priors against linear programs over all priors on a grid, in limits, and on simulated systems."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from modules.uncertainty.conservative import worst_confidence, worst_confidence_of_quantile, worst_reliability


def numbers(*values):
    return [torch.tensor(float(value), dtype=torch.float64) for value in values]


def fractional(numerator, denominator, below=None, equal=None):
    """min <w, numerator> / <w, denominator> over laws w with <w, a> <= v or = v (Charnes and Cooper 1962)."""
    size = len(numerator)
    equations = [np.r_[denominator, 0], np.r_[np.ones(size), -1]]  # w is scaled, and the scale is the last unknown
    if equal is not None:
        equations.append(np.r_[equal[0], -equal[1]])
    result = linprog(
        np.r_[numerator, 0],
        A_eq=np.array(equations),
        b_eq=[1.0] + [0.0] * (len(equations) - 1),
        A_ub=None if below is None else np.r_[below[0], -below[1]][None],
        b_ub=None if below is None else [0.0],
        method="highs",
    )
    assert result.success
    return result.fun


def grid(*points, lower=0.0):
    x = np.unique(np.r_[np.linspace(0, 1, 1501), np.geomspace(1e-5, 1, 1500), points])
    return x[x >= lower]


@pytest.mark.parametrize(
    ("k", "t", "theta", "epsilon"),
    [(0, 3, 0.9, 0.01), (10, 5, 0.9, 0.01), (100, 50, 0.7, 0.01), (1000, 30, 0.9, 0.001), (50, 1, 0.5, 0.02)],
)
def test_reliability_is_the_solution_of_the_linear_program(k, t, theta, epsilon):
    x = grid(epsilon)
    passed = (1 - x) ** k / (1 - epsilon) ** k
    want = fractional(passed * (1 - x) ** t, passed, equal=((x <= epsilon).astype(float), theta))
    got = float(worst_reliability(*numbers(k, t, theta, epsilon)))
    assert want * (1 - 1e-5) <= got <= want + 1e-7  # no prior on the grid is worse


@pytest.mark.parametrize(
    ("k", "p", "m", "lower"),
    [
        (0, 0.1, 0.01, 0),
        (10, 0.02, 0.01, 0.001),
        (100, 0.02, 0.01, 0.001),
        (1000, 0.02, 0.01, 0.009),
        (40, 0.1, 0.01, 0),
    ],
)
def test_confidence_from_a_mean_is_the_solution_of_the_linear_program(k, p, m, lower):
    best = max(lower, (k * m - 1) / (k - 1)) if k > 1 else lower
    x = grid(m, p, p * (1 + 1e-9), lower, best, lower=lower)
    passed = (1 - x) ** k / (1 - m) ** k
    want = fractional(passed * (x <= p), passed, below=(x, m))
    assert float(worst_confidence(*numbers(k, p, m, lower))) == pytest.approx(want, abs=1e-6)


def test_confidence_from_a_quantile_is_the_solution_of_the_linear_program():
    x = grid(0.01, 0.03, 0.03 * (1 + 1e-9))
    passed = (1 - x) ** 100 / 0.99**100
    want = fractional(passed * (x <= 0.03), passed, equal=((x <= 0.01).astype(float), 0.8))
    got = worst_confidence_of_quantile(*numbers(100, 0.03, 0.8, 0.01))
    assert float(got) == pytest.approx(want, abs=1e-6)
    assert float(worst_confidence_of_quantile(*numbers(100, 0.005, 0.8, 0.01))) == 0


def test_knowledge_of_the_mean_alone_predicts_nothing_more_however_long_it_runs():
    for k in (0, 20, 200):
        x = grid(0.01)
        passed = (1 - x) ** k / 0.99**k
        assert fractional(passed * (1 - x) ** 30, passed, below=(x, 0.01)) == pytest.approx(0.99**30, rel=1e-6)


def test_limits():
    k = torch.tensor([0, 10, 1e3, 1e5, 1e7], dtype=torch.float64)
    got = worst_reliability(k, *numbers(300, 0.9, 1e-3))
    torch.testing.assert_close(got[0], torch.tensor(0.9 * 0.999**300, dtype=torch.float64))
    torch.testing.assert_close(got[-1], torch.tensor(0.999**300, dtype=torch.float64), rtol=1e-4, atol=0)
    assert (got.diff() > 0).all()
    assert float(worst_reliability(*numbers(50, 20, 1, 0.01))) == pytest.approx(0.99**20)
    assert float(worst_reliability(*numbers(50, 20, 0, 0.01))) < 1e-9
    assert float(worst_confidence(*numbers(50, 0.1, 0.1, 0))) == 0
    assert float(worst_confidence(*numbers(50, 0.1, 0.02, 0.02))) == 1


def test_no_law_with_that_knowledge_is_worse():
    """Thousands of random laws, the shares among their survivors exact."""
    draw = torch.Generator().manual_seed(0)
    laws, atoms, epsilon, theta = 5000, 6, 0.01, 0.8
    below = epsilon * torch.rand(laws, atoms, generator=draw, dtype=torch.float64)
    above = epsilon ** torch.rand(laws, atoms, generator=draw, dtype=torch.float64).pow(0.3)
    weights = torch.rand(2, laws, atoms, generator=draw, dtype=torch.float64).pow(4)
    weights = torch.cat(
        [theta * weights[0] / weights[0].sum(1, True), (1 - theta) * weights[1] / weights[1].sum(1, True)], 1
    )
    x = torch.cat([below, above], 1)
    for k, t in ((0, 10), (30, 10), (300, 100)):
        survivors = weights * (1 - x) ** k
        share = (survivors * (1 - x) ** t).sum(1) / survivors.sum(1)
        bound = float(worst_reliability(*numbers(k, t, theta, epsilon)))
        assert bound <= float(share.min())
        assert bound > 0.5 * float(share.min())

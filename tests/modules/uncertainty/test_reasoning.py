"""The circuit against the sum over all assignments, its bounds against points of the intervals."""

from __future__ import annotations

import itertools
import math

import pytest
import torch

from modules.uncertainty.reasoning import posterior, posterior_bounds

TABLE = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 0], [1, 1, 0, 1]], dtype=torch.bool)


def models(*batch, seed=0):
    draw = torch.Generator().manual_seed(seed)
    p = torch.randn(*batch, 3, generator=draw, dtype=torch.float64).mul(2).softmax(-1)
    return p, torch.randn(*batch, 4, generator=draw, dtype=torch.float64).mul(2).sigmoid()


@pytest.mark.parametrize("weight", [0.0, 0.7, 3.0])
def test_the_circuit_is_the_sum_over_all_assignments(weight):
    """2^3 assignments of the classes, of which those with just one count, times 2^4 of the concepts, rule by rule."""
    p, q = models(5)
    total = torch.zeros(5, 3, dtype=torch.float64)
    for classes in itertools.product([0, 1], repeat=3):
        if sum(classes) != 1:
            continue
        for concepts in itertools.product([0, 1], repeat=4):
            kept = sum(
                not classes[y] or concepts[c] == int(TABLE[y, c]) for y in range(3) for c in range(4)
            )  # implications hold where their left side is false
            mass = torch.full((5,), math.exp(weight * kept), dtype=torch.float64)
            for c, value in enumerate(concepts):
                mass = mass * (q[:, c] if value else 1 - q[:, c])
            total[:, classes.index(1)] += mass * p[:, classes.index(1)]
    expected = total / total.sum(1, keepdim=True)
    torch.testing.assert_close(posterior(p, q, TABLE, weight), expected, rtol=1e-12, atol=0)


def test_limits():
    p, q = models(7)
    torch.testing.assert_close(posterior(p, q, TABLE, 0.0), p, rtol=1e-12, atol=0)
    sure = torch.where(TABLE[1], 1.0, 0.0).double().expand(7, 4)
    assert (posterior(p, sure, TABLE, 500.0)[:, 1] > 1 - 1e-12).all()
    # Rules that may not be broken: the probability of the one assignment of concepts that is left to each class.
    only = p * torch.where(TABLE, q[:, None], 1 - q[:, None]).prod(2)
    torch.testing.assert_close(posterior(p, q, TABLE, 500.0), only / only.sum(1, keepdim=True), rtol=1e-9, atol=0)


@pytest.mark.parametrize("weight", [0.5, 4.0])
def test_no_point_of_the_intervals_is_out_of_bounds_and_some_come_close(weight):
    p, q = models(20, 4000)
    center_p, center_q = models(20, 1, seed=1)
    p, q = 0.8 * center_p + 0.2 * p, 0.8 * center_q + 0.2 * q
    ends_p, ends_q = (p.amin(1), p.amax(1)), (q.amin(1), q.amax(1))
    low, high = posterior_bounds(ends_p, ends_q, TABLE, weight)
    found = posterior(p, q, TABLE, weight)
    assert (found >= low[:, None] - 1e-12).all()
    assert (found <= high[:, None] + 1e-12).all()
    # The worst corner is one of the points: with p_y at its lower end and the rest as the intervals allow.
    gaps = ((found.amin(1) - low), (high - found.amax(1)))
    assert max(float(gap.mean()) for gap in gaps) < 0.15


def test_the_lower_bound_is_reached_by_a_linear_programme():
    """For two classes everything is known by hand; for three, p over its polytope by scipy at the worst q."""
    from scipy.optimize import linprog

    p_low, p_high = torch.tensor([0.3, 0.1, 0.05]).double(), torch.tensor([0.7, 0.5, 0.4]).double()
    q_low, q_high = torch.tensor([0.4, 0.2, 0.6, 0.1]).double(), torch.tensor([0.9, 0.3, 0.8, 0.7]).double()
    weight = 1.3
    low, high = posterior_bounds((p_low, p_high), (q_low, q_high), TABLE, weight)
    for y in range(3):
        ends = []
        for worst in (True, False):
            agreeing = [q_low, q_high] if worst else [q_high, q_low]
            q = torch.where(TABLE[y], *agreeing)
            f = (1 + (math.exp(weight) - 1) * torch.where(TABLE, q, 1 - q)).prod(1)
            values = []
            for mine in torch.linspace(float(p_low[y]), float(p_high[y]), 401).tolist():
                bounds = [(mine, mine) if k == y else (float(p_low[k]), float(p_high[k])) for k in range(3)]
                cost = -f.numpy() if worst else f.numpy()
                found = linprog(cost, A_eq=[[1, 1, 1]], b_eq=[1], bounds=bounds)
                if found.success:
                    values.append(mine * float(f[y]) / abs(found.fun))
            ends.append(min(values) if worst else max(values))
        assert float(low[y]) <= ends[0] + 1e-9
        assert float(high[y]) >= ends[1] - 1e-9
        assert float(low[y]) == pytest.approx(ends[0], rel=0.02)
        assert float(high[y]) == pytest.approx(ends[1], rel=0.02)


def test_intervals_of_no_width_and_no_weight():
    p, q = models(9)
    exact = posterior(p, q, TABLE, 1.5)
    for bound in posterior_bounds((p, p), (q, q), TABLE, 1.5):
        torch.testing.assert_close(bound, exact, rtol=1e-10, atol=0)
    low, high = p * 0.9, (p * 1.2).clamp(max=0.99)
    bounds = posterior_bounds((low, high), (q * 0, q * 0 + 1), TABLE, 0.0)
    # Knowledge of no weight: the main model's own interval, or tighter where the others cannot make up for it.
    assert (bounds[0] >= low - 1e-12).all()
    assert (bounds[1] <= high + 1e-12).all()

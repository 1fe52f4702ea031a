"""Thresholds by hand and against the authors' procedure in a loop, cascades, and the guarantee itself."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import beta, binomtest

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.selective_judge import GRID, SelectiveJudge

SPEC = DataSpec("j", "vector", (4,), target="class", classes=("first", "second"), bounds=(0.0, 1.0), sizes={"train": 6})


def method(judges=(1,), costs=None, of=2, width=4, **arguments):
    spec = SPEC.but(shape=(width,))
    return SelectiveJudge(spec, judges=judges, of=of, costs=costs or (1.0,) * len(judges), **arguments)


def drawn(problems, n, seed=0, bias=0.0):
    """One judge with one annotator: confidence c, right with the probability c - bias; x (problems, n, 1), y."""
    draw = torch.Generator().manual_seed(seed)
    p = torch.rand(problems, n, 1, generator=draw, dtype=torch.float64)
    right = torch.rand(problems, n, generator=draw) < (torch.maximum(p, 1 - p) - bias).squeeze(-1)
    return p, torch.where(right, (p > 0.5).squeeze(-1), (p <= 0.5).squeeze(-1)).long()


def by_bounds(confidence, wrong, alpha, delta, least):
    """As in the authors' code: down from the largest threshold, while the upper bound of the error is at most alpha."""
    best = float("inf")
    for threshold in torch.linspace(1, 0.5, GRID, dtype=torch.float64).tolist():
        chosen = confidence >= threshold
        n, k = int(chosen.sum()), int(wrong[chosen].sum())
        if n < least:
            continue
        if k == n or beta.ppf(1 - delta, k + 1, n - k) > alpha:
            break
        best = threshold
    return best


@pytest.mark.parametrize("alpha", [0.1, 0.2, 0.3])
def test_tested_thresholds_are_those_of_the_bounds(alpha):
    x, y = drawn(8, 300)
    made = method(judges=(0,), of=1, width=1, alpha=alpha)
    confidence, answer = (part[..., 0] for part in made.confidence(x))
    got = made.thresholds(x, y)[:, 0]
    want = [by_bounds(c, a != t, alpha, 0.1, 30) for c, a, t in zip(confidence, answer, y, strict=True)]
    torch.testing.assert_close(got, torch.tensor(want, dtype=torch.float64))
    assert got.isfinite().any()


def test_point_estimates_and_heuristics():
    x = torch.tensor([[[0.95], [0.9], [0.2], [0.3], [0.6]]], dtype=torch.float64)
    y = torch.tensor([[1, 1, 1, 0, 1]])
    point = method(judges=(0,), of=1, width=1, rule="point", alpha=0.26, least=1)
    threshold = float(point.thresholds(x, y))
    assert threshold == 0.5  # one of five is wrong
    tight = method(judges=(0,), of=1, width=1, rule="point", alpha=0.1, least=1)
    assert 0.8 < float(tight.thresholds(x, y)) <= 0.81
    assert float(method(judges=(0,), of=1, width=1, rule="heuristic", alpha=0.1).thresholds(x, y)) == pytest.approx(0.9)
    assert float(method(judges=(0,), of=1, width=1, rule="none").thresholds(x, y)) == 0


def test_a_cascade_by_hand():
    made = method(judges=(0, 1), costs=(1.0, 5.0))
    x = torch.tensor([[0.9, 0.7, 0.5, 0.5], [0.6, 0.6, 0.1, 0.3], [0.6, 0.6, 0.6, 0.5]], dtype=torch.float64)
    torch.testing.assert_close(made.confidence(x)[0][1], torch.tensor([0.6, 0.8], dtype=torch.float64))
    answers, cost = made.judge(x, torch.tensor([0.75, 0.7], dtype=torch.float64))
    assert answers.tolist() == [1, 0, -1]
    assert cost.tolist() == [1, 6, 6]
    single = method(judges=(0, 1), confidence="single")
    torch.testing.assert_close(single.confidence(x)[0][0], torch.tensor([0.9, 0.5], dtype=torch.float64))


def test_later_judges_are_calibrated_on_what_is_left():
    x = torch.cat([drawn(1, 400)[0], drawn(1, 400, seed=1)[0]], 2)
    y = drawn(1, 400, seed=1)[1]
    made = method(judges=(0, 1), width=2, rule="heuristic", alpha=0.2)
    made.rule = "point"
    first, second = made.thresholds(x, y)[0]
    left = made.confidence(x)[0][0, :, 0] < first
    alone = method(judges=(1,), width=2, rule="point", alpha=0.2)
    torch.testing.assert_close(alone.thresholds(x[:, left], y[:, left])[0, 0], second)


@pytest.mark.parametrize("bias", [0.0, 0.1])
def test_the_promise_is_kept_by_tests_and_broken_by_point_estimates(bias):
    """P(error | c >= t) = (1 - t) / 2 + bias for confidences that are uniform on [1/2, 1]."""
    x, y = drawn(2000, 200, seed=2, bias=bias)
    for rule, kept in (("tested", True), ("point", False)):
        made = method(judges=(0,), of=1, width=1, alpha=0.2, delta=0.1, rule=rule)
        threshold = torch.cat([made.thresholds(*part)[:, 0] for part in zip(x.split(500), y.split(500), strict=True)])
        broken = int(((1 - threshold) / 2 + bias > 0.2).sum())
        assert (binomtest(broken, 2000, 0.1, alternative="greater").pvalue > 1e-3) == kept


def test_sharing_delta_and_hopeless_tests():
    x = torch.full((1, 40, 2), 0.99, dtype=torch.float64)
    y = torch.ones(1, 40, dtype=torch.long)
    assert method(judges=(0, 1), width=2, alpha=0.1).thresholds(x, y)[0, 0].isfinite()
    assert method(judges=(0, 1), width=2, alpha=0.1, shared=True).risk == pytest.approx(0.05)
    assert method(judges=(0,), of=1, width=1, alpha=0.01).thresholds(x[..., :1], y).isinf().all()


def test_state_is_the_records_and_their_thresholds():
    made = method(judges=(0,), of=1, width=1, rule="point", least=1, alpha=0.3)
    x, y = drawn(1, 6)
    made.accumulate(Labelled(x[0, :4], y[0, :4]))
    made.accumulate(Labelled(x[0, 4:], y[0, 4:]))
    made.solve()
    torch.testing.assert_close(made.chosen, made.thresholds(x[0], y[0]))
    torch.testing.assert_close(made.predict_log_proba(x[0])[:, 1].exp(), x[0, :, 0])


def test_mistakes_are_named():
    wrong = ({"judges": (2,)}, {"costs": (1.0, 2.0)}, {"rule": "x"}, {"confidence": "x"}, {"alpha": 0}, {"least": 0})
    for arguments in wrong:
        with pytest.raises(UserError, match=rf"model\.{next(iter(arguments))}"):
            method(**arguments)
    with pytest.raises(UserError, match="has no probabilities of 3 judges"):
        method(of=3)

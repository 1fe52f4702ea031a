"""Linear rewards against scipy and scikit-learn, against Fisher's information, and in the paper's construction."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import optimize, stats
from sklearn.linear_model import LogisticRegression

from compendium.errors import UserError
from datamodules.presentations.rankings import RankingData
from datamodules.sources.linear_rankings import LinearRankings
from modules.preference.linear_reward import LinearReward, choice_sets


def solved(source: LinearRankings, **settings) -> tuple[LinearReward, RankingData]:
    data = RankingData(source)
    method = LinearReward(data.spec, **settings)
    batch = data.present(data.take(data.columns, data.rows["train"], "train"), "train")
    method.accumulate(batch)
    method.solve()
    return method, data


def of_problem(data: RankingData, problem: int) -> np.ndarray:
    return data.columns["ranked"][data.columns["problem"] == problem].double().numpy()


def nll(theta: np.ndarray, ranked: np.ndarray, pairs: bool) -> float:
    """Mean over rankings, written out."""
    total = 0.0
    for ranking in ranked @ theta:
        for k in range(len(ranking) - 1):
            if pairs:
                total += np.log1p(np.exp(ranking[k + 1 :] - ranking[k])).sum()
            else:
                total += np.log(np.exp(ranking[k:] - ranking[k]).sum())
    return total / len(ranked)


@pytest.mark.parametrize("likelihood", ["plackett_luce", "pairs"])
@pytest.mark.parametrize("bound", [4.0, 0.5])
def test_it_is_the_constrained_maximum_that_scipy_finds(likelihood, bound):
    method, data = solved(
        LinearRankings(ranked=4, rankings=15, dimensions=3, validation=1, test=2), likelihood=likelihood, bound=bound
    )
    for problem in range(3):
        found = optimize.minimize(
            nll, np.zeros(3), (of_problem(data, problem), likelihood == "pairs"), method="SLSQP", tol=1e-12,
            constraints=[
                {"type": "eq", "fun": lambda theta: theta.sum()},
                {"type": "ineq", "fun": lambda theta: bound**2 - theta @ theta},
            ],
        )  # fmt: skip
        np.testing.assert_allclose(method.weight[problem].numpy(), found.x, atol=2e-5)
    assert bool((method.weight.norm(dim=1) <= bound + 1e-9).all())


def test_pairs_alone_are_logistic_regression():
    method, data = solved(LinearRankings(rankings=60, dimensions=3, validation=1, test=1), bound=100.0)
    plane = np.linalg.qr(np.eye(3) - 1 / 3)[0][:, :2]
    for problem in range(2):
        ranked = of_problem(data, problem)
        x = (ranked[:, 0] - ranked[:, 1]) @ plane
        both = LogisticRegression(C=np.inf, fit_intercept=False, tol=1e-10, max_iter=1000)
        both.fit(np.concatenate([x, -x]), [1] * 60 + [0] * 60)
        np.testing.assert_allclose(method.weight[problem].numpy(), plane @ both.coef_[0], atol=1e-4)


def test_separable_rankings_end_on_the_sphere():
    """One comparison says nothing of how much better: the answer is the steepest point of the ball."""
    source = LinearRankings("uncovered", rankings=2, validation=1, test=60)
    method, data = solved(source, bound=2.0)
    torch.testing.assert_close(method.weight.norm(dim=1), torch.full((61,), 2.0, dtype=torch.float64))


def test_its_errors_are_those_of_fisher_s_information():
    """n E |error|^2 tends to the trace of the inverse information, E sigma'(x theta) x x^T in the plane."""
    source = LinearRankings(rankings=400, dimensions=3, validation=1, test=199)
    method, data = solved(source, bound=10.0)
    error = (method.weight - data.columns["weight"]).square().sum(1)
    # x ~ N(0, 2 I): along theta with u ~ N(0, 2), across it independent of u.
    u = math.sqrt(2) * torch.from_numpy(stats.norm.ppf((np.arange(4000) + 0.5) / 4000))
    curve = torch.sigmoid(u) * torch.sigmoid(-u)
    expected = 1 / float((curve * u * u).mean()) + 1 / float(2 * curve.mean())
    standard = float(400 * error.std() / 200**0.5)
    assert float(400 * error.mean()) == pytest.approx(expected, abs=4 * standard + 0.05 * expected)


def test_the_greedy_choice_fails_as_often_as_one_comparison_misleads():
    """With probability sigma(-1) the second answer beats the third, at any number of rankings (Theorem 3.9)."""
    method, data = solved(LinearRankings("uncovered", rankings=300, validation=1, test=399), pessimism=0.0)
    batch = data.records("test")
    wrong = int((method.choose(batch.items, batch.problem) <= 1).sum())
    low, high = stats.binom.interval(0.999, 399, 1 / (1 + math.e))
    assert low <= wrong <= high
    method.pessimism = 1.0
    assert int((method.choose(batch.items, batch.problem) <= 1).sum()) == 0


@pytest.mark.parametrize("reference", ["zero", "mean"])
def test_pessimism_subtracts_the_width_in_the_norm_of_what_was_compared(reference):
    settings = {"pessimism": 0.7, "ridge": 2.0, "reference": reference, "bound": 3.0}
    method, data = solved(LinearRankings("recorded", ranked=3, rankings=12, validation=1, test=5), **settings)
    batch = data.records("test")
    chosen = method.choose(batch.items, batch.problem)
    for row, problem in enumerate(batch.problem.tolist()):
        ranked = of_problem(data, problem)
        moment = np.zeros((4, 4))
        for ranking in ranked:
            for j in range(3):
                for k in range(j):
                    x = ranking[j] - ranking[k]
                    moment += np.outer(x, x) / (12 * 3)
        centre = ranked.mean((0, 1)) if reference == "mean" else 0.0
        inverse = np.linalg.inv(moment + 2.0 / 12 * np.eye(4))
        width = 0.7 * math.sqrt((4 + 2.0 * 9) / 12)
        away = batch.items[row].double().numpy() - centre
        value = away @ method.weight[problem].numpy() - width * np.sqrt(np.einsum("ad,de,ae->a", away, inverse, away))
        assert int(chosen[row]) == int(value.argmax())


def test_choices_are_those_of_the_two_likelihoods():
    assert choice_sets(3, False).tolist() == [[True, True, True], [False, True, True]]
    assert choice_sets(3, True).tolist() == [[True, True, False], [True, False, True], [False, True, True]]


@pytest.mark.parametrize(
    "settings", [{"likelihood": "other"}, {"reference": "other"}, {"bound": 0}, {"pessimism": -1}, {"ridge": 0}]
)
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        LinearReward(RankingData(LinearRankings()).spec, **settings)

"""Split conformal prediction against mapie and crepes, by hand, and by the guarantee itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from callbacks.metrics.quantiles import interval_score
from modules.uncertainty.conformal import (
    class_scores,
    conformal_quantile,
    exact_interval,
    mondrian_quantiles,
    of_class,
    quantile_scores,
    residual_scores,
)

SIMULATIONS = 10_000


def law(problems, n, classes=4, seed=0):
    """Probabilities (problems, n, C) that are not those of the classes y (problems, n) that were drawn."""
    draw = torch.Generator().manual_seed(seed)
    logits = 1.5 * torch.randn(problems, n, classes, generator=draw, dtype=torch.float64)
    y = torch.multinomial(logits.flatten(0, 1).softmax(-1), 1, generator=draw).view(problems, n)
    return (2 * logits + torch.randn(classes, generator=draw, dtype=torch.float64)).softmax(-1), y


def consistent(successes, trials, low, high=None):
    """Whether a count of successes is one that a probability in [low, high] gives, at 0.1%."""
    above = binomtest(successes, trials, low, alternative="less").pvalue > 1e-3
    return above and (high is None or binomtest(successes, trials, high, alternative="greater").pvalue > 1e-3)


@pytest.mark.parametrize(
    ("n", "alpha", "k"), [(9, 0.1, 9), (8, 0.1, None), (99, 0.1, 90), (9, 0.7, 3), (19, 0.05, 19), (18, 0.05, None)]
)
def test_the_rank_is_that_of_the_definition(n, alpha, k):
    scores = torch.arange(1.0, n + 1).flip(0)
    assert float(conformal_quantile(scores, alpha)) == (k if k else float("inf"))


def test_lac_sets_are_those_of_mapie_and_crepes():
    from crepes import ConformalClassifier
    from mapie.classification import SplitConformalClassifier
    from sklearn.base import BaseEstimator, ClassifierMixin

    class Known(ClassifierMixin, BaseEstimator):
        """Gives the probabilities that it gets."""

        def __init__(self):
            self.classes_, self.fitted_ = np.arange(4), True

        def fit(self, x, y):
            return self

        def predict_proba(self, x):
            return x

        def predict(self, x):
            return x.argmax(1)

    (proba, y), (new, _) = ((p[0], t[0]) for p, t in (law(1, 200), law(1, 500, seed=1)))
    scores = class_scores(proba, "lac")
    ours = class_scores(new, "lac") <= conformal_quantile(of_class(scores, y), 0.1)
    mapie = SplitConformalClassifier(Known(), confidence_level=0.9, prefit=True, conformity_score="lac")
    _, sets = mapie.conformalize(proba.numpy(), y.numpy()).predict_set(new.numpy())
    assert np.array_equal(sets[..., 0], ours.numpy())
    crepes = ConformalClassifier().fit(of_class(scores, y).numpy())
    sets = crepes.predict_set(class_scores(new, "lac").numpy(), confidence=0.9, smoothing=False)
    assert np.array_equal(np.asarray(sets).astype(bool), ours.numpy())
    assert 0 < float(ours.double().mean()) < 1


def test_mondrian_sets_are_those_of_crepes():
    from crepes import ConformalClassifier

    (proba, y), (new, _) = ((p[0], t[0]) for p, t in (law(1, 300), law(1, 200, seed=1)))
    own = of_class(class_scores(proba, "lac"), y)
    ours = class_scores(new, "lac") <= mondrian_quantiles(own, y, 4, 0.1)
    crepes = ConformalClassifier().fit(own.numpy(), bins=y.numpy())
    for label in range(4):
        bins = np.full(200, label)
        sets = crepes.predict_set(class_scores(new, "lac").numpy(), bins=bins, confidence=0.9, smoothing=False)
        assert np.array_equal(np.asarray(sets)[:, label].astype(bool), ours[:, label].numpy())


def test_regression_intervals_are_those_of_crepes_and_mapie():
    from crepes import ConformalRegressor
    from mapie.regression import ConformalizedQuantileRegressor
    from sklearn.base import BaseEstimator, RegressorMixin

    draw = np.random.default_rng(0)
    mean, y, spread = draw.normal(size=150), draw.normal(size=150), draw.uniform(0.5, 2, 150)
    crepes = ConformalRegressor().fit(y - mean, sigmas=spread)
    want = crepes.predict_int(mean[:10], sigmas=spread[:10], confidence=0.9)
    scores = residual_scores(*(torch.from_numpy(a) for a in (mean, spread, y)))
    q = float(conformal_quantile(scores, 0.1))
    np.testing.assert_allclose(np.stack([mean[:10] - q * spread[:10], mean[:10] + q * spread[:10]], 1), want)

    class Known(RegressorMixin, BaseEstimator):
        """A quantile of the law that x gives: column 0 is the low one, 1 the high one, 2 the median."""

        def __init__(self, column):
            self.column, self.fitted_ = column, True

        def fit(self, x, y):
            return self

        def predict(self, x):
            return x[:, self.column]

    x = np.stack([mean - spread, mean + spread, mean], 1)
    estimators = [Known(column) for column in (0, 1, 2)]
    mapie = ConformalizedQuantileRegressor(estimators, confidence_level=0.9, prefit=True).conformalize(x, y)
    _, want = mapie.predict_interval(x[:10], symmetric_correction=True)
    q = float(conformal_quantile(quantile_scores(*(torch.from_numpy(a) for a in (x[:, 0], x[:, 1], y))), 0.1))
    np.testing.assert_allclose(np.stack([x[:10, 0] - q, x[:10, 1] + q], 1), want[..., 0])


def test_aps_and_raps_by_hand():
    proba = torch.tensor([0.1, 0.5, 0.15, 0.25], dtype=torch.float64)
    aps = torch.tensor([1.0, 0.5, 0.9, 0.75], dtype=torch.float64)
    torch.testing.assert_close(class_scores(proba, "aps"), aps)
    torch.testing.assert_close(class_scores(proba, "aps", u=0.4), aps - 0.6 * proba)
    penalty = torch.tensor([0.6, 0.0, 0.4, 0.2], dtype=torch.float64)
    torch.testing.assert_close(class_scores(proba, "raps", weight=0.2, free=1), aps + penalty)
    assert class_scores(proba.expand(2, 3, 4), "aps", u=torch.ones(2, 3)).shape == (2, 3, 4)


def test_aps_of_the_true_law_is_uniform():
    """With the true probabilities the randomised score is U(0, 1): Romano et al. 2020, section 2.1."""
    draw = torch.Generator().manual_seed(3)
    proba = torch.randn(20_000, 5, generator=draw, dtype=torch.float64).softmax(-1)
    y = torch.multinomial(proba, 1, generator=draw).squeeze(1)
    u = torch.rand(20_000, generator=draw, dtype=torch.float64)
    scores = of_class(class_scores(proba, "aps", u), y).sort().values
    assert float((scores - torch.linspace(0, 1, 20_000)).abs().max()) < 1.95 / 20_000**0.5  # Kolmogorov, 0.1%


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("n", [20, 45])
def test_marginal_coverage_is_guaranteed(score, n):
    proba, y = law(SIMULATIONS, n + 1)
    u = torch.rand(SIMULATIONS, n + 1, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    own = of_class(class_scores(proba, score, u, weight=0.05, free=1), y)
    covered = int((own[:, -1] <= conformal_quantile(own[:, :-1], 0.1)).sum())
    assert consistent(covered, SIMULATIONS, 0.9, 0.9 + 1 / (n + 1))


def test_coverage_of_each_class_is_guaranteed():
    proba, y = law(SIMULATIONS, 61)
    own = of_class(class_scores(proba, "lac"), y)
    quantiles = mondrian_quantiles(own[:, :-1], y[:, :-1], 4, 0.2)
    plain = conformal_quantile(own[:, :-1], 0.2)
    broken = []
    for label in range(4):
        mine = y[:, -1] == label
        covered = (own[:, -1] <= quantiles[:, label])[mine]
        assert consistent(int(covered.sum()), int(mine.sum()), 0.8)
        broken.append(not consistent(int((own[:, -1] <= plain)[mine].sum()), int(mine.sum()), 0.8))
    assert any(broken), "one quantile for all classes would have done"


def test_intervals_cover_as_promised():
    draw = torch.Generator().manual_seed(0)
    spread = 0.5 + torch.rand(SIMULATIONS, 31, generator=draw)
    y = spread * torch.randn(SIMULATIONS, 31, generator=draw)
    for scores in (residual_scores(0 * y, spread, y), quantile_scores(-0.3 * spread, 0.2 * spread, y)):
        covered = int((scores[:, -1] <= conformal_quantile(scores[:, :-1], 0.25)).sum())
        assert consistent(covered, SIMULATIONS, 0.75, 0.75 + 1 / 31)


def test_small_groups_get_everything():
    quantiles = mondrian_quantiles(torch.arange(5.0), torch.tensor([0, 0, 0, 0, 1]), 3, 0.2)
    assert quantiles.tolist() == [3.0, float("inf"), float("inf")]


def test_the_interval_score_is_least_at_the_quantiles():
    y = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    ends = torch.tensor([0.05, 0.1, 0.15], dtype=torch.float64)[:, None]
    means = interval_score(ends, 1 - ends, y, 0.8).mean(1)
    assert int(means.argmin()) == 1
    # E = (1 - 2 e) + (2 / alpha) 2 (e^2 / 2) for U(0, 1).
    torch.testing.assert_close(means[1], torch.tensor(0.8 + 10 * 0.1**2).double(), rtol=1e-4, atol=0)


def test_the_exact_interval_is_scipys():
    for successes, trials in ((0, 10), (3, 10), (10, 10)):
        want = binomtest(successes, trials).proportion_ci(0.95, "exact")
        assert exact_interval(successes, trials) == pytest.approx((want.low, want.high))
    assert np.isnan(exact_interval(0, 0)).all()

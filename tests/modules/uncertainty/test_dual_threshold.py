"""Both thresholds by hand, Youden's against scikit-learn's ROC curve."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.conformal import exact_interval
from modules.uncertainty.dual_threshold import SCORES, DualThreshold, youden

SPEC = DataSpec("s", "vector", (3,), target="class", classes=("a", "b", "c"), sizes={"train": 400})
LINEAR = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


class Logits(torch.nn.Module):
    """The record itself."""

    def forward(self, x):
        return x


def records(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw)
    return x, torch.multinomial((2 * x).softmax(1), 1, generator=draw).squeeze(1)


def solved(n=400, seed=0, **arguments):
    made = DualThreshold(SPEC.but(sizes={"train": n}), net=LINEAR, **arguments)
    made.predictor.net = Logits()
    made.accumulate(Labelled(*records(n, seed)))
    made.solve()
    return made


@pytest.mark.parametrize("seed", range(5))
def test_the_threshold_is_where_scikit_learns_roc_curve_is_highest_above_its_diagonal(seed):
    from sklearn.metrics import roc_curve

    draw = torch.Generator().manual_seed(seed)
    score = torch.randint(12, (80,), generator=draw).double()  # with ties
    positive = torch.rand(80, generator=draw) < score / 14
    fpr, tpr, _ = roc_curve(positive, score)
    above = score > youden(score, positive)
    gain = above[positive].double().mean() - above[~positive].double().mean()
    assert float(gain) == pytest.approx(float((tpr - fpr).max()))


def test_thresholds_where_there_is_nothing_to_tell():
    score = torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)
    assert youden(score, torch.tensor([False] * 3)) == torch.inf
    assert youden(score, torch.tensor([True] * 3)) == -torch.inf
    assert youden(score, torch.tensor([True, False, False])) == torch.inf  # worse than chance
    assert youden(score, torch.tensor([False, True, True])) == 1.5


def test_scores_by_hand():
    log_proba = torch.tensor([[0.6, 0.3, 0.1], [0.98, 0.01, 0.01]], dtype=torch.float64).log()
    expected = {
        "confidence": [0.4, 0.02],
        "margin": [0.7, 0.03],
        "entropy": [0.897946, 0.111902],
        # With Q = 0.75: 0.6 is in the set, and so is 0.3, by 0.05.
        "set_margin": [0.897946 + 0.05, 0.111902],
    }
    assert set(expected) == set(SCORES)
    for name, values in expected.items():
        made = solved(score=name)
        made.quantile.fill_(0.75)
        torch.testing.assert_close(made.scored(log_proba), torch.tensor(values).double(), rtol=0, atol=1e-6)
    made.quantile.fill_(0.3)  # 0.6 lacks 0.1 to be in the set
    assert float(made.scored(log_proba)[0]) == pytest.approx(0.897946 + 0.1, abs=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_sets_cover_as_promised_and_answers_more_often(score):
    made = solved(4000, score=score)
    x, y = records(20_000, seed=1)
    covered = made.predict_set(x).gather(1, y[:, None]).squeeze(1)
    low, high = exact_interval(int(covered.sum()), len(y), 0.999)
    slack = 4 * 0.3 / 4000**0.5
    assert low - slack <= 0.9 <= high + slack
    answered = ~made.abstains(x)
    right = made.predict_log_proba(x).argmax(1) == y
    assert right[answered].double().mean() > right.double().mean()
    assert torch.equal(made.abstains(x), made.uncertainty(x) > made.threshold)
    assert not solved(score=score, abstain=False).abstains(x).any()


def test_mistakes_are_named():
    for arguments, match in (({"alpha": 1}, "alpha"), ({"score": "x"}, "score")):
        with pytest.raises(UserError, match=match):
            solved(**arguments)

"""Sets on top of a classifier, by hand and against the guarantee."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.conformal import exact_interval
from modules.uncertainty.conformal_classifier import ConformalClassifier

SPEC = DataSpec("s", "vector", (3,), target="class", classes=("a", "b", "c"), sizes={"train": 19})
LINEAR = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


class Logits(torch.nn.Module):
    """The record itself."""

    def forward(self, x):
        return x


def method(n=19, **arguments):
    made = ConformalClassifier(SPEC.but(sizes={"train": n}), net=LINEAR, **arguments)
    made.predictor.net = Logits()
    return made


def records(n, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw)
    return x, torch.multinomial((1.5 * x).softmax(1), 1, generator=draw).squeeze(1)


def test_lac_by_hand():
    x, y = records(19)
    made = method(alpha=0.2)
    made.accumulate(Labelled(x[:7], y[:7]))
    made.accumulate(Labelled(x[7:], y[7:]))
    made.solve()
    p = x.double().softmax(1)
    q = sorted((1 - p[torch.arange(19), y]).tolist())[15]  # the 16th of 19: ceil(20 * 0.8)
    new, _ = records(50, seed=1)
    assert torch.equal(made.predict_set(new), 1 - new.double().softmax(1) <= q + 1e-12)


def test_before_it_is_fit_and_for_small_classes_sets_are_full():
    x, y = records(19)
    made = method(alpha=0.2, by_class=True)
    assert made.predict_set(x).all()
    made.accumulate(Labelled(x, torch.zeros_like(y)))
    made.solve()
    assert made.predict_set(x)[:, 1:].all()
    assert not made.predict_set(x)[:, 0].all()


@pytest.mark.parametrize("score", ["lac", "aps", "raps"])
@pytest.mark.parametrize("by_class", [False, True])
def test_coverage_is_what_was_promised(score, by_class):
    """One calibration set of 4000: coverage is Beta-distributed about 1 - alpha, with a standard deviation of 0.005."""
    torch.manual_seed(0)
    made = method(4000, score=score, by_class=by_class)
    made.accumulate(Labelled(*records(4000)))
    made.solve()
    x, y = records(20_000, seed=1)
    covered = made.predict_set(x).gather(1, y[:, None]).squeeze(1)
    for mine in [y == label for label in range(3)] if by_class else [y >= 0]:
        low, high = exact_interval(int(covered[mine].sum()), int(mine.sum()), 0.999)
        slack = 4 * 0.3 / (4000 / (3 if by_class else 1)) ** 0.5
        assert low - slack <= 0.9 <= high + slack


def test_draws_matter_only_where_asked_for():
    x, _ = records(200)
    for randomised in (True, False):
        made = method(score="aps", randomised=randomised)
        made.quantiles.fill_(0.7)
        assert torch.equal(made.predict_set(x), made.predict_set(x)) != randomised


def test_mistakes_are_named():
    for arguments, match in (
        ({"alpha": 1}, r"model\.alpha"),
        ({"score": "x"}, r"model\.score"),
        ({"free": -1}, "free"),
    ):
        with pytest.raises(UserError, match=match):
            method(**arguments)

"""Figures of sets that abstain, by hand on shifts that do nothing and against those of the shifts themselves."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import roc_auc_score

from callbacks.evaluation import shifted
from callbacks.evaluation.abstention import Abstention
from callbacks.metrics.means import known_mean
from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Nearest(Fake):
    """The class whose mean is nearest, and no answer where two are about as near."""

    alpha = 0.1

    def __init__(self, data):
        super().__init__()
        batch = data.records("train")
        self.register_buffer("means", torch.stack([batch.x[batch.y == c].mean(0) for c in range(10)]))

    def predict_log_proba(self, x):
        return (-(x[:, None] - self.means).flatten(2).square().mean(2) * 20).log_softmax(1)

    def predict_set(self, x):
        return self.predict_log_proba(x).exp() > 0.3

    def uncertainty(self, x):
        return -self.predict_log_proba(x).max(1).values

    def abstains(self, x):
        return self.uncertainty(x) > 0.7


def test_severity_0_by_hand_and_more_abstention_with_more_noise(tmp_path):
    data = LabelledData(Digits())
    data.setup()
    method = Nearest(data)
    figures = evaluate(method, data, Abstention(shifts=["contrast", "rotation"], severities=[1, 5]), folder=tmp_path)
    batch = data.records("test")
    log_proba, sets, silent = method.predict_log_proba(batch.x), method.predict_set(batch.x), method.abstains(batch.x)
    covered = sets[torch.arange(len(batch.y)), batch.y]
    right = log_proba.argmax(1) == batch.y
    assert figures["abstention_0"] == pytest.approx(float(silent.double().mean()))
    assert figures["coverage_0"] == pytest.approx(float(covered[~silent].double().mean()))
    assert figures["marginal_coverage_0"] == pytest.approx(float(covered.double().mean()))
    assert figures["set_size_0"] == pytest.approx(float(sets[~silent].sum(1).double().mean()))
    assert figures["answer_accuracy_0"] == pytest.approx(float(right[~silent].double().mean()))
    assert figures["error_auroc_0"] == pytest.approx(roc_auc_score(~right, method.uncertainty(batch.x)))
    told = -log_proba[torch.arange(len(batch.y)), batch.y]
    assert figures["label_auroc_0"] == pytest.approx(roc_auc_score(~right, told))
    assert figures["answered"] == (~silent).sum()
    assert figures["answered_covered"] == (covered & ~silent).sum()
    assert figures["abstention_5"] > figures["abstention_0"]
    assert figures["coverage_shifted"] == pytest.approx((figures["coverage_1"] + figures["coverage_5"]) / 2)


def test_a_shift_that_does_nothing_gives_the_plain_figures(tmp_path, monkeypatch):
    data = LabelledData(Digits())
    data.setup()
    monkeypatch.setattr(shifted, "shift", lambda kind, name: lambda columns, severity, known: columns)
    figures = evaluate(Nearest(data), data, Abstention(severities=[2]), folder=tmp_path)
    for name in ("abstention", "coverage", "error_auroc", "label_auroc"):
        assert figures[f"{name}_2"] == pytest.approx(figures[f"{name}_0"])
        assert figures[f"{name}_shifted"] == pytest.approx(figures[f"{name}_0"])


def test_shares_of_nothing_are_undefined_and_left_out_of_means():
    class Silent(Nearest):
        def __init__(self):
            Fake.__init__(self)
            self.register_buffer("means", torch.randn(10, 1, 8, 8, generator=torch.Generator().manual_seed(0)))

        def abstains(self, x):
            return torch.ones(len(x), dtype=torch.bool)

    figures = Abstention.judged(Silent(), Labelled(torch.zeros(4, 1, 8, 8), torch.arange(4)))
    assert math.isnan(figures["coverage"])
    assert figures["abstention"] == 1
    assert known_mean([math.nan, 1.0, 3.0]) == 2
    assert math.isnan(known_mean([math.nan]))


def test_what_there_is_not_is_refused():
    with pytest.raises(UserError, match="severities"):
        Abstention(severities=[6])

"""Figures of class probabilities against scikit-learn and by hand."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.metrics import accuracy_score, brier_score_loss, log_loss

from callbacks.evaluation.classification import Classification
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, evaluate


class Table(Source):
    """Rows of probabilities as records, so that the fake only has to take their logarithm; all are test records."""

    def __init__(self, rows, y):
        self.x, self.y = torch.tensor(rows), torch.tensor(y)

    def load(self):
        spec = DataSpec("table", "vector", (self.x.shape[1],), target="class", classes=("a", "b", "c"))
        train = {"train": torch.arange(1), "validation": torch.arange(1), "test": torch.arange(len(self.y))}
        return Records(spec, {"x": self.x, "y": self.y}, splits=train)


class Probabilities(Fake):
    def predict_log_proba(self, x):
        return x.log()


def figures(rows, y, tmp_path, **arguments):
    data = LabelledData(Table(rows, y), scale="none", eval_batch_size=3)
    return evaluate(Probabilities(), data, Classification(**arguments), folder=tmp_path)


def test_by_hand(tmp_path):
    rows = [[0.7, 0.2, 0.1], [0.1, 0.6, 0.3], [0.25, 0.3, 0.45], [0.9, 0.05, 0.05]]
    got = figures(rows, [0, 2, 2, 0], tmp_path, bins=2)
    assert got["accuracy"] == 0.75
    assert got["nll"] == pytest.approx(-math.log(0.7 * 0.3 * 0.45 * 0.9) / 4, rel=1e-6)
    # 0.09 + 0.04 + 0.01, 0.01 + 0.36 + 0.49, 0.0625 + 0.09 + 0.3025, 0.01 + 0.0025 + 0.0025
    assert got["brier"] == pytest.approx((0.14 + 0.86 + 0.455 + 0.015) / 4, rel=1e-6)
    # Below a half: confidence 0.45, right. Above: 0.7, 0.6 and 0.9, of which two are right.
    assert got["ece"] == pytest.approx(0.25 * (1 - 0.45) + 0.75 * (2.2 / 3 - 2 / 3), abs=1e-6)


def test_against_scikit_learn_on_digits(tmp_path):
    method, data = FakeEverything(), LabelledData(Digits(), eval_batch_size=100)
    got = evaluate(method, data, Classification(), folder=tmp_path)
    batch = data.records("test")
    proba = method.predict_log_proba(batch.x).double().exp()
    proba = (proba / proba.sum(1, keepdim=True)).numpy()
    assert got["accuracy"] == pytest.approx(accuracy_score(batch.y, proba.argmax(1)), abs=1e-6)
    assert got["nll"] == pytest.approx(log_loss(batch.y, proba, labels=range(10)), rel=1e-6)
    theirs = brier_score_loss(batch.y.numpy(), proba, labels=range(10), scale_by_half=False)
    assert got["brier"] == pytest.approx(theirs, rel=1e-6)


def test_a_probability_above_one_by_rounding_is_no_logit(tmp_path):
    got = figures([[1.0000001, 0.0, 0.0]] * 4, [0, 0, 0, 0], tmp_path)
    assert got["accuracy"] == 1
    assert got["ece"] == pytest.approx(0, abs=1e-6)


def test_certain_and_wrong_is_infinite_and_nan_hides_nothing(tmp_path):
    assert figures([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], [0, 0], tmp_path)["nll"] == math.inf
    assert all(math.isnan(v) for v in figures([[math.nan] * 3, [1.0, 0.0, 0.0]], [0, 0], tmp_path).values())

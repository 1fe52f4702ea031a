"""Probes of embeddings against scikit-learn."""

from __future__ import annotations

import math

import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from callbacks.evaluation.embeddings import Embeddings
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, evaluate


def test_pixels_against_scikit_learn(tmp_path):
    data = LabelledData(Digits(), scale="none", eval_batch_size=100)
    got = evaluate(FakeEverything(), data, Embeddings(limit=600), folder=tmp_path)
    train, test = data.records("train", 600), data.records("test")
    scaler = StandardScaler().fit(train.x.flatten(1).double().numpy())
    probe = LogisticRegression(max_iter=1000)
    probe.fit(scaler.transform(train.x.flatten(1).double().numpy()), train.y.numpy())
    theirs = probe.score(scaler.transform(test.x.flatten(1).double().numpy()), test.y.numpy())
    assert got["linear_probe"] == pytest.approx(theirs, abs=1e-12)
    assert got["knn"] > 0.93


def test_one_hot_of_the_class_is_read_perfectly_and_a_constant_not_at_all(tmp_path):
    class Constant(Fake):
        def embed(self, x):
            return torch.ones(len(x), 3)

    data = LabelledData(Digits(), scale="none")
    pixels = {x.numpy().tobytes(): y for x, y in zip(*data.columns.values(), strict=True)}

    class Oracle(Fake):
        def embed(self, x):
            return torch.eye(10)[[int(pixels[row.numpy().tobytes()]) for row in x]]

    assert evaluate(Oracle(), data, Embeddings(), folder=tmp_path) == {"linear_probe": 1, "knn": 1}
    y = data.records("test").y
    frequency = torch.bincount(y).double().max().item() / len(y)
    got = evaluate(Constant(), data, Embeddings(), folder=tmp_path)
    assert got["linear_probe"] <= frequency
    assert got["knn"] <= frequency


def test_embeddings_that_are_not_finite_give_nan(tmp_path):
    class Broken(Fake):
        def embed(self, x):
            return torch.full((len(x), 3), math.nan)

    got = evaluate(Broken(), LabelledData(Digits()), Embeddings(), folder=tmp_path)
    assert all(math.isnan(value) for value in got.values())

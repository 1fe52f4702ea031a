"""The training loss of a linear classifier whose loss is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from callbacks.evaluation.training_loss import TrainingLoss, total
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from modules.supervised.classifier import SoftmaxClassifier
from tests.callbacks.evaluation.fakes import evaluate

NET = {"_target_": "modules.networks.linear.Linear"}


def test_it_is_the_mean_over_the_training_split(tmp_path):
    """ln 10 of a network that gives zeros; of another one the cross-entropy of all its records at once."""
    data = LabelledData(Digits(), eval_batch_size=100)
    method = SoftmaxClassifier(data.spec, net=NET)
    assert evaluate(method, data, TrainingLoss(n=5000), folder=tmp_path)["training_loss"] == pytest.approx(math.log(10))
    torch.nn.init.normal_(method.net.last.weight, std=0.1)
    batch = data.records("train", 321)
    expected = cross_entropy(method.net(batch.x).double(), batch.y).item()
    assert evaluate(method, data, TrainingLoss(n=321), folder=tmp_path)["training_loss"] == pytest.approx(expected)


def test_terms_are_added_up():
    assert total({"a": torch.tensor(1.0), "b": torch.tensor(2.5)}) == 3.5


def test_it_is_off_until_asked_for_and_where_there_is_no_loss():
    data = LabelledData(Digits())
    assert "n=null" in TrainingLoss().why_not_on(SoftmaxClassifier(data.spec, net=NET), data)
    assert TrainingLoss(n=5).why_not_on(SoftmaxClassifier(data.spec, net=NET), data) is None
    with pytest.raises(UserError, match="at least one record"):
        TrainingLoss(n=0)


def test_records_come_in_the_precision_of_the_weights(tmp_path):
    data = LabelledData(Digits(), eval_batch_size=100)
    method = SoftmaxClassifier(data.spec, net=NET)
    figures = evaluate(method, data, TrainingLoss(n=50), folder=tmp_path, precision="64-true")
    assert figures["training_loss"] == pytest.approx(math.log(10))

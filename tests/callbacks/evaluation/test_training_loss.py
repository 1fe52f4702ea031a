"""The training loss of a linear classifier whose loss is known."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn.functional import cross_entropy

from callbacks.evaluation.training_loss import TrainingLoss, total
from compendium.engine import build
from compendium.engine import evaluate as run_evaluations
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.digits import Digits
from modules.supervised.classifier import SoftmaxClassifier
from tests.callbacks.evaluation.fakes import evaluate
from tests.modules.test_contract import planned

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


def test_of_tokens_it_is_what_the_model_learns_from(tmp_path):
    few = ("net.width=8", "net.depth=1", "net.heads=2", "datamodule.context=16", "datamodule.eval_batch_size=8")
    asked = "++callbacks.evaluation.training_loss._target_=callbacks.evaluation.training_loss.TrainingLoss"
    parts = build(
        planned("language/language_model", tmp_path, *few, asked, "++callbacks.evaluation.training_loss.n=20")
    )
    figures = run_evaluations(parts, "test")
    parts.method.eval()
    with torch.no_grad():
        expected = parts.method.loss(parts.data.records("train", 20))
    assert figures["test/training_loss"] == pytest.approx(float(expected), rel=1e-5)


def test_of_batches_that_a_method_does_not_learn_from_there_is_none():
    data = UnlabelledData(Digits())
    method = SoftmaxClassifier(LabelledData(Digits()).spec, net=NET)
    assert "learns from other batches" in TrainingLoss(n=5).why_not(method, data.evaluation_batch_type, data.spec)

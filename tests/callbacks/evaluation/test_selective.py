"""Selective figures from a table of probabilities."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.selective import Selective
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import FakeEverything, evaluate


class Members(FakeEverything):
    """Two members, and a score of its own that is their distance."""

    def predict_members(self, x):
        first = super().predict_log_proba(x)
        return torch.stack([first, (2 * first).log_softmax(1)])

    def predict_log_proba(self, x):
        return self.predict_members(x).logsumexp(0) - math.log(2)

    def uncertainty(self, x):
        return self.predict_members(x).exp().std(0).sum(1)


def test_figures_are_those_of_the_definitions(tmp_path):
    data = LabelledData(Digits(), eval_batch_size=100)
    figures = evaluate(Members(), data, Selective(), folder=tmp_path)
    batch = data.records("test")
    proba = Members().predict_log_proba(batch.x).double().exp()
    confidence, answer = proba.max(1)
    wrong = (answer != batch.y).double()
    order = confidence.argsort(descending=True)
    curve = wrong[order].cumsum(0) / torch.arange(1, len(order) + 1)
    assert figures["aurc"] == pytest.approx(float(curve.mean()), abs=1e-6)
    count = int(wrong.sum())
    best = torch.cat([torch.zeros(len(order) - count), torch.arange(1, count + 1)]) / torch.arange(1, len(order) + 1)
    assert figures["eaurc"] > 0
    assert figures["aurc"] - figures["eaurc"] <= float(best.mean()) + 0.5 * count / len(order)
    members = Members().predict_members(batch.x).double()
    of_members = -(members.exp() * members).sum(2).mean(0)
    information = -(proba * proba.log()).sum(1) - of_members
    pairs = information[wrong > 0][:, None] - information[wrong == 0]
    auroc = float(((pairs > 0).double() + 0.5 * (pairs == 0).double()).mean())
    assert figures["error_auroc_mutual_information"] == pytest.approx(auroc, abs=1e-4)
    assert "error_auroc_uncertainty" in figures
    assert (tmp_path / "risk_coverage.png").exists()


def test_a_plain_classifier_has_no_figures_of_members(tmp_path):
    data = LabelledData(Digits())
    figures = evaluate(FakeEverything(), data, Selective(), folder=tmp_path)
    assert not [name for name in figures if "mutual" in name or "uncertainty" in name]
    assert figures["accuracy_at_90"] == pytest.approx(1 - figures["aurc"], abs=0.2)

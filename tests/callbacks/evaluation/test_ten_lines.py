"""A classifier of ten lines, written outside the project, has the whole suite of evaluations without one of its own."""

from __future__ import annotations

import math

import torch
from lightning import LightningModule

from callbacks.evaluation.calibration import Calibration
from callbacks.evaluation.class_calibration import ClassCalibration
from callbacks.evaluation.classification import Classification
from callbacks.evaluation.out_of_distribution import OutOfDistribution
from callbacks.evaluation.selective import Selective
from callbacks.evaluation.shifted import Shifted
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import evaluate


class Ridge(LightningModule):
    def __init__(self, data):
        super().__init__()
        x, y = data.records("train")
        x, y = x.flatten(1), torch.nn.functional.one_hot(y).float()
        self.weight = torch.nn.Parameter(torch.linalg.solve(x.T @ x + 10 * torch.eye(64), x.T @ y))

    def predict_log_proba(self, x):
        return (8 * x.flatten(1) @ self.weight).log_softmax(1)

    def test_step(self, batch, batch_idx):
        pass


def test_it_reports_calibration_selective_risk_shift_and_unknown_records(tmp_path):
    data = LabelledData(Digits())
    suite = (Classification(), Calibration(), ClassCalibration(), Selective(), Shifted(), OutOfDistribution())
    figures = evaluate(Ridge(data), data, *suite, folder=tmp_path)
    assert all(evaluation.active for evaluation in suite)
    assert not [name for name, value in figures.items() if math.isnan(value)]
    assert figures["accuracy"] > 0.9
    assert figures["accuracy_shifted"] < figures["accuracy"]
    assert figures["accuracy_at_90"] > figures["accuracy"]
    assert figures["ood_auroc"] > 0.7
    assert figures["error_auroc"] > 0.7
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"reliability.png", "risk_coverage.png"}

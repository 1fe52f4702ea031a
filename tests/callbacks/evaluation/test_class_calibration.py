"""Figures of all classes, from the records of a split."""

from __future__ import annotations

import pytest

from callbacks.evaluation.class_calibration import ClassCalibration
from callbacks.metrics.calibration import brier_parts, classwise_ece, ks_error
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import FakeEverything, evaluate


def test_figures_are_those_of_all_records(tmp_path):
    data = LabelledData(Digits(), eval_batch_size=100)
    got = evaluate(FakeEverything(), data, ClassCalibration(bins=9), folder=tmp_path)
    batch = data.records("test")
    proba = FakeEverything().predict_log_proba(batch.x).double().exp()
    assert got["classwise_ece"] == pytest.approx(classwise_ece(proba, batch.y, 9), abs=1e-7)
    assert got["ks"] == pytest.approx(ks_error(proba.max(1).values, proba.argmax(1) == batch.y), abs=1e-7)
    assert got["brier_reliability"] == pytest.approx(brier_parts(proba, batch.y, 9).reliability, abs=1e-6)


def test_less_than_a_bin_is_refused():
    with pytest.raises(UserError, match=r"class_calibration\.bins=0"):
        ClassCalibration(bins=0)

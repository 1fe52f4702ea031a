"""Figures of a table of probabilities, and the picture."""

from __future__ import annotations

import math

import matplotlib.image
import pytest
import torch

from callbacks.evaluation.calibration import Calibration, diagram
from callbacks.metrics.calibration import binned_ece, reliability, smooth_ece
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, FakeEverything, FakeRegressor, Line, evaluate


class Coin(Source):
    """Forecasts of a fair coin, at 1/2 but for a hint of what comes; all are test records."""

    def __init__(self, hint, n=400):
        self.y = torch.randint(2, (n,), generator=torch.Generator().manual_seed(0))
        self.x = 0.5 + hint * (2.0 * self.y[:, None] - 1)

    def load(self):
        spec = DataSpec("coin", "vector", (1,), target="class", classes=("tails", "heads"))
        rows = {"train": torch.arange(1), "validation": torch.arange(1), "test": torch.arange(len(self.y))}
        return Records(spec, {"x": self.x, "y": self.y}, splits=rows)


class Believer(Fake):
    def predict_log_proba(self, x):
        return torch.cat([1 - x, x], 1).log()


def figures(hint, folder, **arguments):
    data = LabelledData(Coin(hint), scale="none", eval_batch_size=64)
    return evaluate(Believer(), data, Calibration(**arguments), folder=folder)


def test_a_hint_of_the_outcome_breaks_bins_and_not_the_kernel(tmp_path):
    plain, hinted = figures(0.0, tmp_path, bins=10), figures(0.001, tmp_path, bins=10)
    share = float(Coin(0.0).y.double().mean())
    assert plain["smooth_ece_binary"] == pytest.approx(abs(share - 0.5), abs=1e-6)
    assert plain["ece_binary_spread"] == pytest.approx(0, abs=1e-6)
    assert hinted["ece_binary"] == pytest.approx(0.499, abs=1e-6)
    assert hinted["ece_binary_spread"] > 0.45
    assert abs(hinted["smooth_ece_binary"] - plain["smooth_ece_binary"]) < 0.03
    # The likelier side always comes true, with a confidence of 0.501.
    assert hinted["smooth_ece"] == pytest.approx(0.499, abs=1e-6)
    assert hinted["ece_equal_mass"] == pytest.approx(0.499, abs=1e-6)


def test_figures_are_those_of_the_highest_probability(tmp_path):
    data = LabelledData(Digits(), eval_batch_size=100)
    got = evaluate(FakeEverything(), data, Calibration(bins=9), folder=tmp_path)
    batch = data.records("test")
    p, top = FakeEverything().predict_log_proba(batch.x).double().exp().max(1)
    assert got["smooth_ece"] == pytest.approx(smooth_ece(p, top == batch.y), abs=1e-7)
    assert got["ece_equal_mass"] == pytest.approx(binned_ece(p, top == batch.y, 9, equal_mass=True), abs=1e-7)
    assert set(got) == {"smooth_ece", "ece_equal_mass"}, "ten classes have no second one"


def test_the_peer_agrees(tmp_path):
    got = figures(0.02, tmp_path, peer=True)
    assert got["smooth_ece_relplot"] == pytest.approx(got["smooth_ece_binary"], abs=1.5e-3)


def test_the_line_is_as_wide_as_forecasts_are_dense(tmp_path):
    figures(0.1, tmp_path)
    assert matplotlib.image.imread(tmp_path / "reliability.png").shape[2] == 4
    p = torch.full((100,), 0.25)
    axis = diagram(reliability(p, torch.arange(100) < 30), "rain", "title").axes[0]
    widths = torch.tensor(axis.collections[0].get_linewidths())
    assert float(axis.collections[0].get_segments()[int(widths.argmax())][0][0]) == pytest.approx(0.25, abs=0.02)
    assert axis.texts[0].get_text() == "smooth ECE 0.050"


def test_nan_is_nan_and_leaves_no_picture(tmp_path):
    got = figures(math.nan, tmp_path, peer=True)
    assert len(got) == 7
    assert all(math.isnan(value) for value in got.values())
    assert not (tmp_path / "reliability.png").exists()


def test_real_targets_and_bad_arguments(tmp_path):
    evaluation = Calibration()
    data = LabelledData(Line(), scale="none")
    assert evaluation.why_not(FakeRegressor(), data.batch_type, data.spec) == "FakeRegressor is no Classifier"
    assert evaluation.why_not(FakeEverything(), data.batch_type, data.spec) == "the target is no class"
    with pytest.raises(UserError, match=r"calibration\.bins=0"):
        Calibration(bins=0)
    with pytest.raises(UserError, match=r"calibration\.spread"):
        Calibration(spread=(9, 8))

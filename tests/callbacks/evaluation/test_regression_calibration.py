"""PIT and central intervals against scipy and scoringrules."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.stats
import scoringrules
import torch
import uncertainty_toolbox as toolbox
from torch import distributions

from callbacks.evaluation.regression_calibration import RegressionCalibration
from callbacks.metrics.quantiles import interval_score, pit, quantile
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, FakeRegressor, Line, evaluate


class Mixture(Fake):
    def predict_distribution(self, x):
        middle = 40 + 3 * x[:, 0] - x[:, 1]
        parts = distributions.Normal(torch.stack([middle - 1, middle + 1], 1), torch.full((len(x), 2), 0.7))
        return distributions.MixtureSameFamily(distributions.Categorical(torch.full((len(x), 2), 0.5)), parts)


class Narrow(Fake):
    def predict_distribution(self, x):
        return distributions.Normal(40.3 + 3 * x[:, 0] - x[:, 1], 0.3)


class Broken(Fake):
    def predict_distribution(self, x):
        return distributions.Normal(x[:, 0] * math.nan, 1.0, validate_args=False)


@pytest.mark.parametrize("method", [FakeRegressor(), Mixture()])
def test_figures_are_those_of_scipy_and_scoringrules(method, tmp_path):
    data = LabelledData(Line(), scale="none", eval_batch_size=7)
    got = evaluate(method, data, RegressionCalibration(levels=[0.8]), folder=tmp_path)
    batch = data.records("test")
    law, y = method.predict_distribution(batch.x.double()), batch.y.double()
    transform = law.cdf(y).numpy()
    assert got["pit_ks"] == pytest.approx(scipy.stats.kstest(transform, "uniform").statistic, abs=1e-5)
    low, high = quantile(law, 0.1), quantile(law, 0.9)
    torch.testing.assert_close(law.cdf(low), torch.full_like(low, 0.1), atol=1e-6, rtol=0)
    theirs = scoringrules.interval_score(y.numpy(), low.numpy(), high.numpy(), 0.2)
    np.testing.assert_allclose(interval_score(low, high, y, 0.8).numpy(), theirs, atol=1e-9)
    assert got["interval_score_80"] == pytest.approx(theirs.mean(), rel=1e-4)
    assert got["width_80"] == pytest.approx(float((high - low).mean()), rel=1e-4)
    inside = (low <= y) & (y <= high)
    assert got["coverage_80"] == pytest.approx(float(inside.double().mean()), abs=1e-6)
    assert (tmp_path / "pit.png").exists()


@pytest.mark.parametrize("method", [FakeRegressor(), Narrow()])
def test_figures_of_normal_laws_are_those_of_the_uncertainty_toolbox(method, tmp_path):
    data = LabelledData(Line(), scale="none")
    got = evaluate(method, data, RegressionCalibration(levels=[0.8]), folder=tmp_path)
    batch = data.records("test")
    law = method.predict_distribution(batch.x.double())
    arrays = law.mean.numpy(), law.stddev.numpy(), batch.y.double().numpy()
    # Their 21 levels are our 19, and 0 and 1, where nothing can be wrong.
    theirs = toolbox.root_mean_squared_calibration_error(*arrays, num_bins=21, prop_type="interval")
    assert got["calibration_error"] == pytest.approx(theirs * (21 / 19) ** 0.5, abs=1e-6)
    assert got["coverage_80"] == pytest.approx(toolbox.get_proportion_in_interval(*arrays, 0.8), abs=1e-6)


def test_a_right_law_is_calibrated_and_a_wrong_one_is_not(tmp_path):
    data = LabelledData(Line(), scale="none", test=0.8)
    right, wide = evaluate(FakeRegressor(), data, RegressionCalibration(), folder=tmp_path), evaluate(
        Mixture(), data, RegressionCalibration(), folder=tmp_path
    )  # fmt: skip
    assert wide["calibration_error"] > right["calibration_error"]
    assert wide["coverage_90"] > 0.97


def test_a_law_without_a_distribution_function_is_ranked_by_draws():
    law = distributions.StudentT(5.0, torch.zeros(3), 1.0)
    y = torch.tensor([-1.0, 0.0, 2.0])
    torch.manual_seed(0)
    expected = scipy.stats.t(5).cdf(y.numpy())
    np.testing.assert_allclose(pit(law, y, 20000).numpy(), expected, atol=0.02)
    np.testing.assert_allclose(quantile(law, 0.9, 20000).numpy(), scipy.stats.t(5).ppf(0.9), atol=0.06)


def test_nan_is_nan_and_bad_levels_are_refused(tmp_path):
    got = evaluate(Broken(), LabelledData(Line(), scale="none"), RegressionCalibration(), folder=tmp_path)
    assert len(got) == 8
    assert all(math.isnan(value) for value in got.values())
    with pytest.raises(UserError, match="levels"):
        RegressionCalibration(levels=[1.0])

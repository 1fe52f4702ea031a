"""Figures of predicted points against SciPy and laws that are known."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import norm, pearsonr

from callbacks.evaluation.points import Points
from datamodules.presentations.pointed import PointedData
from datamodules.sources.supershapes import Supershapes
from tests.callbacks.evaluation.fakes import Fake, evaluate

SOURCE = Supershapes(train=2, validation=2, test=300, points=10)


class Guess(Fake):
    """The truth with an error drawn from N(0, s^2), and a variance of (width s)^2, a part of which is epistemic."""

    def __init__(self, width: float, share: float = 0.3) -> None:
        super().__init__()
        draw = torch.Generator().manual_seed(0)
        self.truth = PointedData(SOURCE).records("test").points
        self.s = (0.05 + 0.3 * torch.rand(300, 1, 1, generator=draw)).expand_as(self.truth)
        self.mean = self.truth + self.s * torch.randn(self.truth.shape, generator=draw)
        self.variance, self.share, self.seen = (width * self.s) ** 2, share, 0

    def predict_points(self, x):
        rows = slice(self.seen, self.seen + len(x))
        self.seen += len(x)
        variance = self.variance[rows]
        return self.mean[rows], self.share * variance, (1 - self.share) * variance


def figures(method, tmp_path, size=1024):
    return evaluate(method, PointedData(SOURCE, eval_batch_size=size), Points(), folder=tmp_path)


def test_an_honest_variance(tmp_path):
    method = Guess(1.0)
    got = figures(method, tmp_path)
    error = (method.mean - method.truth).square()
    assert got["rmse"] == pytest.approx(float(error.mean().sqrt()), rel=1e-5)
    expected = -norm.logpdf(method.truth, method.mean, method.variance.sqrt()).mean()
    assert got["nll"] == pytest.approx(expected, rel=1e-4)
    assert got["coverage_error"] < 0.01
    means = [part.flatten(1).mean(1) for part in (method.variance, error)]
    assert got["error_correlation"] == pytest.approx(pearsonr(*means).statistic, abs=1e-5)
    assert got["epistemic_correlation"] == pytest.approx(got["error_correlation"], abs=1e-5)
    assert figures(Guess(1.0), tmp_path, 70) == pytest.approx(got, rel=1e-5)


def test_a_variance_that_is_too_small_covers_too_little(tmp_path):
    levels = np.linspace(0.05, 0.95, 19)
    reach = norm.ppf((1 + levels) / 2)
    expected = np.abs(levels - (2 * norm.cdf(reach / 10) - 1)).mean()
    assert figures(Guess(0.1), tmp_path)["coverage_error"] == pytest.approx(float(expected), abs=0.01)


def test_what_is_constant_has_no_correlation(tmp_path):
    got = figures(Guess(1.0, share=0.0), tmp_path)
    assert "epistemic_correlation" not in got
    assert "aleatoric_correlation" in got

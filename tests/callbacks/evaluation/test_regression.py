"""Figures of predictive laws in the target's own units."""

from __future__ import annotations

import math

import properscoring
import pytest
import torch
from torch import distributions

from callbacks.evaluation.regression import Regression
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, FakeRegressor, Line, evaluate


class HeavyTails(Fake):
    def predict_distribution(self, x):
        return distributions.Laplace(40 + 3 * x[:, 0] - x[:, 1], 1.0)


def test_against_formulas_and_properscoring(tmp_path):
    data = LabelledData(Line(), scale="none", eval_batch_size=7)
    got = evaluate(FakeRegressor(), data, Regression(), folder=tmp_path)
    x, y = (part.double() for part in data.records("test"))
    mean, std = 40 + 3 * x[:, 0] - x[:, 1], 0.5 + 0.1 * x[:, 0].abs()
    assert got["rmse"] == pytest.approx((mean - y).square().mean().sqrt().item(), rel=1e-5)
    nll = ((y - mean) / std).square() / 2 + std.log() + math.log(2 * math.pi) / 2
    assert got["nll"] == pytest.approx(nll.mean().item(), rel=1e-5)
    theirs = properscoring.crps_gaussian(y.numpy(), mean.numpy(), std.numpy()).mean()
    assert got["crps"] == pytest.approx(theirs, rel=1e-5)


def test_a_law_without_closed_form_is_sampled_and_repeats(tmp_path):
    data = LabelledData(Line(), scale="none")
    got = [evaluate(HeavyTails(), data, Regression(draws=2000), folder=tmp_path)["crps"] for _ in range(2)]
    assert got[0] == got[1]
    x, y = data.records("test")
    distance = (y - (40 + 3 * x[:, 0] - x[:, 1])).abs()
    assert got[0] == pytest.approx((distance + torch.exp(-distance) - 0.75).mean().item(), abs=0.02)


def test_a_class_is_no_number():
    data = LabelledData(Digits())
    assert Regression().why_not(FakeRegressor(), data.batch_type, data.spec) == "the target is no real number"

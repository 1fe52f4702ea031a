"""Likelihoods of laws that are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import distributions

from callbacks.evaluation.density import Likelihood
from datamodules.batches import Unlabelled
from datamodules.datamodule import DataModule
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, GaussianTruth, GaussianVectors, evaluate


class Normal(Fake):
    def __init__(self, shift=0.0):
        super().__init__()
        self.shift = shift
        self.seen = 0

    def log_prob(self, x):
        self.seen += len(x)
        return GaussianTruth().log_prob(x - self.shift)


class Uniform(Fake):
    """Uniform over [-1, 1] in each component."""

    def log_prob(self, x):
        return distributions.Uniform(-1.0, 1.0).log_prob(x).flatten(1).sum(1)


def test_the_uniform_law_over_levels_takes_log2_of_them(tmp_path):
    got = evaluate(Uniform(), UnlabelledData(Digits()), Likelihood(), folder=tmp_path)
    assert got["nll"] == pytest.approx(64 * math.log(2), rel=1e-6)
    assert got["bits_per_dim"] == pytest.approx(math.log2(17), abs=1e-6)
    assert "kl" not in got


def test_kl_is_zero_from_the_truth_and_half_the_squared_shift_elsewhere(tmp_path):
    data = UnlabelledData(GaussianVectors(), test=0.5)
    exact = evaluate(Normal(), data, Likelihood(), folder=tmp_path)
    assert exact["kl"] == 0
    assert exact["kl_se"] == 0
    shifted = evaluate(Normal(shift=torch.tensor([1.0, 0.0])), data, Likelihood(), folder=tmp_path)
    # ln p - ln q = 1/2 - x1: mean 1/2, standard deviation 1.
    assert shifted["kl_se"] == pytest.approx(1 / math.sqrt(500), rel=0.1)
    assert abs(shifted["kl"] - 0.5) < 4 * shifted["kl_se"]
    assert shifted["bits_per_dim"] == pytest.approx(shifted["nll"] / (2 * math.log(2)), rel=1e-12)


def test_the_law_is_carried_along_with_x_or_there_is_no_kl(tmp_path):
    class Doubled(DataModule):
        batch_type = Unlabelled

        def present(self, columns, split):
            return Unlabelled(2 * columns["x"])

    assert "kl" not in evaluate(Normal(), Doubled(GaussianVectors()), Likelihood(), folder=tmp_path)

    data = UnlabelledData(GaussianVectors(), scale="standard")
    data.setup()
    scale, shift = data.scaling.scale, data.scaling.shift

    class Standardised(Fake):
        """The law of scale * (x - shift), x from N(0, I)."""

        def log_prob(self, x):
            return distributions.Normal(-shift * scale, scale).log_prob(x).sum(1)

    got = evaluate(Standardised(), data, Likelihood(), folder=tmp_path)
    assert got["kl"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [7, 64, 1024])
def test_limit_takes_the_first_records_of_the_split(tmp_path, size):
    method, data = Normal(), UnlabelledData(GaussianVectors(), eval_batch_size=size)
    got = evaluate(method, data, Likelihood(limit=100), folder=tmp_path)
    assert method.seen == 100
    first = data.columns["x"][data.rows["test"][:100]]
    assert got["nll"] == pytest.approx(-GaussianTruth().log_prob(first).double().mean().item(), rel=1e-9)


def test_nan_is_shown(tmp_path):
    class Broken(Fake):
        def log_prob(self, x):
            return torch.full((len(x),), math.nan)

    got = evaluate(Broken(), UnlabelledData(GaussianVectors()), Likelihood(), folder=tmp_path)
    assert math.isnan(got["nll"])
    assert math.isnan(got["kl"])


def test_labelled_batches_do_too():
    data = LabelledData(Digits())
    assert Likelihood().why_not(Normal(), data.batch_type, data.spec) is None
    assert Likelihood().why_not(Fake(), data.batch_type, data.spec) == "Fake is no Density"

"""Samplers that exaggerate by a known factor."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.saturation import Saturation
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.source import Records, Source
from datamodules.sources.digits import Digits
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Pastels(Source):
    """Pictures of 2 x 2 in three channels, half of whose pixels are 0.4 and half 0.6, the last channel 0.2 less."""

    def load(self) -> Records:
        x = torch.full((60, 3, 2, 2), 0.4)
        x[..., 0] = 0.6
        x[:, 2] -= 0.2
        return Records(DataSpec("pastels", "image", (3, 2, 2), bounds=(0.0, 1.0)), {"x": x})


class Same(Fake):
    """One picture over and over."""

    def __init__(self, picture):
        super().__init__()
        self.picture = picture

    def sample(self, n):
        return self.picture.expand(n, *self.picture.shape)


def test_records_themselves_score_one_and_stronger_ones_more(tmp_path):
    data = UnlabelledData(Pastels(), scale="symmetric")
    data.setup()
    (x,) = data.records("test", 1).x
    same = evaluate(Same(x), data, Saturation(), folder=tmp_path)
    assert same["contrast"] == pytest.approx(1)
    assert same["colour_saturation"] == pytest.approx(1)
    assert math.isnan(same["extremes"])  # the records have none
    strong = evaluate(Same(x.mean() + 1.5 * (x - x.mean())), data, Saturation(), folder=tmp_path)
    assert strong["contrast"] == pytest.approx(1.5, rel=1e-6)
    # In [0, 1] pixels (.6, .6, .4) and (.4, .4, .2) have saturations 1/3 and 1/2; 1.5 times as far from the mean 13/30
    # they are (.68333, .68333, .38333) and (.38333, .38333, .08333): 18/41 and 18/23.
    assert strong["colour_saturation"] == pytest.approx((18 / 41 + 18 / 23) / (1 / 3 + 1 / 2), rel=1e-5)


def test_beyond_the_range_counts_as_its_end(tmp_path):
    data = UnlabelledData(Digits(), dequantize=False)
    data.setup()
    real = (data.records("test").x.abs() == 1).double().mean().item()
    picture = torch.tensor([-7.0, 0.0, 0.5, 3.0]).repeat(1, 8, 2)
    got = evaluate(Same(picture), data, Saturation(), folder=tmp_path)
    assert got["extremes"] == pytest.approx(0.5 / real, rel=1e-6)
    assert "colour_saturation" not in got
    assert math.isnan(evaluate(Same(torch.full((1, 8, 8), math.inf)), data, Saturation(), folder=tmp_path)["contrast"])


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (UnlabelledData(GaussianVectors()), "no pictures"),
        (UnlabelledData(Digits(), scale="standard"), "range of the pixels"),
    ],
)
def test_it_stays_away_where_it_says_nothing(data, reason, tmp_path):
    saturation = Saturation()
    assert evaluate(Same(torch.zeros(2)), data, saturation, folder=tmp_path) == {}
    assert reason in saturation.reason

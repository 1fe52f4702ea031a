"""Samplers whose brightness is known."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.brightness import Brightness
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


class Ramp(Source):
    """Even pictures of 2 x 2, as bright as k / 100."""

    def load(self) -> Records:
        x = (torch.arange(101) / 100)[:, None, None, None].expand(-1, 1, 2, 2)
        return Records(DataSpec("ramp", "image", (1, 2, 2), bounds=(0.0, 1.0)), {"x": x.clone()})


class Drawn(Fake):
    """The same pictures for every call."""

    def __init__(self, pictures):
        super().__init__()
        self.pictures = pictures

    def sample(self, n):
        return self.pictures[:n]


def test_distance_and_spread_of_records_that_were_moved_and_shrunk(tmp_path):
    data = UnlabelledData(Ramp(), scale="symmetric")
    data.setup()
    real = data.records("test", 1000).x
    n = len(real)
    figures = evaluate(Drawn(real), data, Brightness(n=n), folder=tmp_path)
    assert figures == pytest.approx({"brightness_distance": 0.0, "brightness_spread": 1.0}, abs=1e-6)
    # 0.4 in the range from -1 to 1 are 0.2 of the range from black to white.
    moved = evaluate(Drawn(real + 0.4), data, Brightness(n=n), folder=tmp_path)
    assert moved["brightness_distance"] == pytest.approx(0.2, abs=1e-6)
    grey = evaluate(Drawn(real.mean() + 0.5 * (real - real.mean())), data, Brightness(n=n), folder=tmp_path)
    assert grey["brightness_spread"] == pytest.approx(0.5, abs=1e-6)
    broken = evaluate(Drawn(real / 0), data, Brightness(n=n), folder=tmp_path)
    assert all(math.isnan(value) for value in broken.values())


def test_vectors_have_no_brightness():
    data = UnlabelledData(GaussianVectors(), scale="none")
    data.setup()
    assert Brightness().misfit(Fake(), data.spec)

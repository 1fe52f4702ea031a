"""Draws beyond the range of the data."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.outside import Outside
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.sources.densities import Checkerboard
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Partly(Fake):
    """Of ten draws one lies outside in one component, one in both, and one is nowhere."""

    def sample(self, n):
        x = torch.full((n, 2), -4.0)
        x[0::10, 0], x[1::10], x[2::10] = 4.1, -5.0, math.nan
        return x


def test_three_of_ten_are_outside(tmp_path):
    data = UnlabelledData(Checkerboard(train=20, validation=5, test=20))
    data.setup()
    assert evaluate(Partly(), data, Outside(n=100), folder=tmp_path) == {"outside": pytest.approx(0.3)}

"""The figures of alignment are the means of a method's own cosines."""

from __future__ import annotations

import pytest

from callbacks.evaluation.alignment import Alignment
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Aligned(Fake):
    def alignment(self, x, y):
        first = x.flatten(1).mean(1)
        return first[:, None].repeat(1, 3) * first.new_tensor([0.0, 1.0, -2.0])


def test_they_are_means_over_records_and_layers(tmp_path):
    data = LabelledData(Digits(), scale="symmetric")
    data.setup()
    figures = evaluate(Aligned(), data, Alignment(), folder=tmp_path)
    mean = 2 * float(data.columns["x"][data.rows["test"]].double().mean()) - 1  # symmetric: from [0, 1] to [-1, 1]
    expected = {"alignment": -mean / 3, "alignment_1": 0.0, "alignment_2": mean, "alignment_3": -2 * mean}
    assert figures == pytest.approx(expected, rel=1e-6)

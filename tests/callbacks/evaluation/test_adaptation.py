"""The figures of an adapted model are the model's own."""

from __future__ import annotations

from callbacks.evaluation.adaptation import Adaptation
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Changed(Fake):
    def trained_weights(self):
        return 12

    def energy_change(self):
        return 0.25


def test_they_are_logged_where_there_are_any(tmp_path):
    data = LabelledData(Digits(), scale="symmetric")
    data.setup()
    figures = evaluate(Changed(), data, Adaptation(), folder=tmp_path)
    assert figures == {"trained_weights": 12.0, "energy_change": 0.25}

"""The figures are the method's own, of its training records."""

from __future__ import annotations

from callbacks.evaluation.separation import Separation
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Apart(Fake):
    def separation(self, x, y):
        return {"steps": float(len(x)), "margin": float(len(y))}


def test_they_are_of_the_training_split(tmp_path):
    data = LabelledData(Line(), validation=0.1, test=0.2)
    assert evaluate(Apart(), data, Separation(), folder=tmp_path) == {"steps": 210.0, "margin": 210.0}

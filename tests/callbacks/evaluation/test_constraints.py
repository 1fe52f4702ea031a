"""The figures are the method's own, on its training records."""

from __future__ import annotations

from callbacks.evaluation.constraints import Constraints
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Bound(Fake):
    def constrained_optimality(self, batch):
        return {"kkt": float(len(batch.x)), "violation": float(len(batch.y))}


def test_they_are_of_the_training_split(tmp_path):
    data = LabelledData(Line(), validation=0.1, test=0.2)
    assert evaluate(Bound(), data, Constraints(), folder=tmp_path) == {"kkt": 210.0, "violation": 210.0}

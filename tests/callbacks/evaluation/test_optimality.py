"""The figures are the problem's own, on its training records."""

from __future__ import annotations

from callbacks.evaluation.optimality import Optimality
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Solved(Fake):
    def optimality(self, x, y):
        return {"suboptimality": float(len(x)), "distance": float(len(y)), "violation": 0.0}


def test_they_are_of_the_training_split(tmp_path):
    data = LabelledData(Line(), validation=0.1, test=0.2)
    assert evaluate(Solved(), data, Optimality(), folder=tmp_path) == {
        "suboptimality": 210.0,
        "distance": 210.0,
        "violation": 0.0,
    }

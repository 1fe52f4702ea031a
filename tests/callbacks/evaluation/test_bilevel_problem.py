"""The lower level's records are those of training, the upper's those of validation."""

from __future__ import annotations

from callbacks.evaluation.bilevel_problem import BilevelProblem
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Solved(Fake):
    def bilevel(self, lower, upper):
        return {"lower": float(len(lower.y)), "upper": float(len(upper.y))}


def test_they_are_of_the_two_splits(tmp_path):
    data = LabelledData(Line(), validation=0.1, test=0.2)
    assert evaluate(Solved(), data, BilevelProblem(), folder=tmp_path) == {"lower": 210.0, "upper": 30.0}

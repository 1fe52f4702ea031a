"""The objective's records are those of validation, the proxy's those of training."""

from __future__ import annotations

from callbacks.evaluation.proxied_loss import ProxiedLoss
from datamodules.presentations.labelled import LabelledData
from tests.callbacks.evaluation.fakes import Fake, Line, evaluate


class Helped(Fake):
    def proxied(self, objective, proxy):
        return {"objective": float(len(objective.y)), "proxy": float(len(proxy.y))}


def test_they_are_of_the_two_splits(tmp_path):
    data = LabelledData(Line(), validation=0.1, test=0.2)
    assert evaluate(Helped(), data, ProxiedLoss(), folder=tmp_path) == {"objective": 30.0, "proxy": 210.0}

"""Members written down by hand, and their figures by pairs."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch

from callbacks.evaluation.members import Members
from datamodules.presentations.labelled import LabelledData
from datamodules.sources.digits import Digits
from modules.uncertainty.members import mixture
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Votes(Fake):
    """Three members, of which one is certain of what the first pixels say."""

    def predict_members(self, x):
        scores = x.flatten(1)
        members = torch.stack([scores[:, :10], scores[:, 20:30], scores[:, 40:50]])
        return (5 * members).log_softmax(2)

    def predict_log_proba(self, x):
        return mixture(self.predict_members(x))


def test_figures_are_those_of_pairs_of_members(tmp_path):
    data = LabelledData(Digits(), eval_batch_size=100)
    got = evaluate(Votes(), data, Members(), folder=tmp_path)
    batch = data.records("test")
    members = Votes().predict_members(batch.x).double()
    top = members.argmax(2)
    pairs = [(top[i] != top[j]).double().mean() for i, j in combinations(range(3), 2)]
    assert got["disagreement"] == pytest.approx(float(torch.stack(pairs).mean()))
    assert got["member_accuracy"] == pytest.approx(float((top == batch.y).double().mean()))
    rows = torch.arange(len(batch.y))
    assert got["member_nll"] == pytest.approx(-float(members[:, rows, batch.y].mean()))
    laws = torch.distributions.Categorical(members.exp())
    mixed = torch.distributions.Categorical(members.exp().mean(0))
    want = (mixed.entropy() - laws.entropy().mean(0)).mean()
    assert got["mutual_information"] == pytest.approx(float(want), rel=1e-6)
    assert 0 < got["mutual_information"] < math.log(3)

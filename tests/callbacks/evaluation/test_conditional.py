"""Conditional samplers that obey in a known share of the draws."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.conditional import Conditional
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.unlabelled import UnlabelledData
from datamodules.source import Records, Source
from datamodules.sources.densities import GaussianMixture
from datamodules.sources.digits import Digits
from datamodules.sources.tables import Table
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate

LAW = GaussianMixture(torch.tensor([[0.0, 0.0], [9.0, 0.0], [0.0, 9.0]]), 0.5, labels=torch.arange(3))


class Labels(Source):
    """Records of a mixture, with their component as class."""

    def load(self) -> Records:
        y = torch.arange(90) % 3
        x = LAW.means[y].float() + 0.5 * torch.randn(90, 2, generator=torch.Generator().manual_seed(0))
        spec = DataSpec("labels", "vector", (2,), target="class", classes=("a", "b", "c"))
        return Records(spec, {"x": x, "y": y}, truth=LAW)


class Obedient(Fake):
    """Draws training records of the class after that asked for by `off`."""

    def __init__(self, data, off=0):
        super().__init__()
        data.setup()
        self.x, self.y, self.off = data.records("train").x, data.columns["y"][data.rows["train"]], off
        self.classes = len(data.spec.classes)

    def sample_of(self, y):
        same = self.y == ((y + self.off) % self.classes)[:, None]
        return self.x[same.double().multinomial(1).squeeze(1)]


@pytest.mark.parametrize("presentation", [LabelledData, UnlabelledData])
def test_records_of_the_class_are_taken_for_it(presentation, tmp_path):
    data = presentation(Digits())
    good = evaluate(Obedient(data), data, Conditional(n=505), folder=tmp_path)
    assert good["conditional_accuracy"] > 0.97
    assert 0.9 < good["conditional_worst"] <= good["conditional_accuracy"]
    assert evaluate(Obedient(data, off=1), data, Conditional(n=505), folder=tmp_path)["conditional_accuracy"] < 0.03


def test_vectors_belong_to_the_nearest_mean(tmp_path):
    data = LabelledData(Labels(), scale="none")
    assert evaluate(Obedient(data), data, Conditional(), folder=tmp_path) == {
        "conditional_accuracy": 1,
        "conditional_worst": 1,
    }

    class Half(Fake):
        """Class 0 in the place of class 1, and nothing finite for class 2."""

        def sample_of(self, y):
            x = LAW.means[torch.where(y == 1, 0, y)].float()
            return torch.where(y[:, None] == 2, math.inf, x)

    got = evaluate(Half(), data, Conditional(n=30), folder=tmp_path)
    assert got["conditional_accuracy"] == pytest.approx(1 / 3)
    assert got["conditional_worst"] == 0


@pytest.mark.parametrize(
    ("data", "n", "reason"),
    [
        (LabelledData(Table("wine")), 1000, "no judge"),
        (LabelledData(Digits()), 9, "fewer draws than classes"),
    ],
)
def test_it_stays_away_where_nobody_can_judge(data, n, reason, tmp_path):
    conditional = Conditional(n=n)
    assert evaluate(Obedient(data), data, conditional, folder=tmp_path) == {}
    assert reason in conditional.reason

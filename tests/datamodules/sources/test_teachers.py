"""Teachers at a cosine: directions, and how often they err and agree."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.teacher_pairs import TeacherPairData
from datamodules.sources.digits import Digits
from datamodules.sources.teachers import Teachers


def test_they_err_as_often_as_their_angle_says():
    source = Teachers(dimensions=50, strong=0.6, weak=0.1, student=-0.3, labels="student", train=40000, test=40000)
    found = source.directions()
    for name, cosine in source.cosines.items():
        assert float(found[name] @ found["truth"]) == pytest.approx(cosine)
        assert float(found[name].norm()) == pytest.approx(1)
    records = source.load()
    columns, test, train = records.columns, records.splits["test"], records.splits["train"]
    truth = (columns["x"].double() @ found["truth"] > 0).long()
    for name, cosine in (("chosen", 0.6), ("rejected", 0.1)):
        wrong = float((columns[name] != truth).double().mean())
        assert wrong == pytest.approx(math.acos(cosine) / math.pi, abs=4 * 0.5 / 90000**0.5)
    assert torch.equal(columns["y"][test], truth[test])
    wrong = float((columns["y"] != truth)[train].double().mean())
    assert wrong == pytest.approx(math.acos(-0.3) / math.pi, abs=4 * 0.5 / 200)


def test_the_cosine_of_one_label_does_not_move_the_others():
    first, second = (Teachers(weak=weak, dimensions=20).directions() for weak in (0.0, 0.5))
    for name in ("truth", "student", "strong"):
        assert torch.equal(first[name], second[name])


@pytest.mark.parametrize("settings", [{"dimensions": 1}, {"weak": 1.0}, {"labels": "other"}, {"train": 0}])
def test_values_out_of_range_are_refused(settings):
    with pytest.raises(UserError):
        Teachers(**settings)


def test_pairs_need_teachers():
    with pytest.raises(UserError, match="vector data"):
        TeacherPairData(Digits()).setup()

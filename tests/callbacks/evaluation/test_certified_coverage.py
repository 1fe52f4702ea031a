"""Figures of certificates and of an attack, on a classifier whose worst case is known."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.certified_coverage import CertifiedCoverage
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Sides(Source):
    """600 points of the plane; the class is the sign of the first feature, of one in ten the other one."""

    def load(self) -> Records:
        draw = torch.Generator().manual_seed(0)
        x = torch.randn(600, 2, generator=draw)
        y = (x[:, 0] > 0).long() ^ (torch.rand(600, generator=draw) < 0.1).long()
        return Records(DataSpec("sides", "vector", (2,), target="class", classes=("left", "right")), {"x": x, "y": y})


class HalfSpaces(Fake):
    """The set holds a class up to 0.2 beyond its side."""

    alpha, radius = 0.1, 0.5

    def __init__(self, spec):
        super().__init__()
        self.spec = spec

    def margin(self, x, y):
        return x[:, 0] * (2 * y - 1) + 0.2

    def predict_set(self, x):
        return torch.stack([-x[:, 0], x[:, 0]], 1) + 0.2 >= 0

    def certified(self, x, y):
        return self.margin(x, y) >= self.radius

    def certificate(self, error=0.05):
        return 0.25

    def attack_loss(self, x, y, draws):
        return -self.margin(x, y)


def test_the_attack_of_a_half_space_is_the_worst_one_and_counts_are_right(tmp_path):
    data = LabelledData(Sides(), scale="none")
    data.setup()
    method = HalfSpaces(data.spec)
    figures = evaluate(method, data, CertifiedCoverage(), folder=tmp_path)
    batch = data.records("test")
    margin = method.margin(batch.x, batch.y)
    certain = (margin >= 0.5).double()
    assert figures["certified_coverage"] == pytest.approx(float(certain.mean()))
    assert figures["certified"] == certain.sum()
    assert figures["attacked_records"] == len(batch.y)
    assert figures["attacked_coverage"] == pytest.approx(float((margin >= 0.5 - 1e-6).double().mean()))
    assert figures["unattacked_coverage"] == pytest.approx(float((margin >= 0).double().mean()))
    assert figures["unattacked_set_size"] == pytest.approx(float(method.predict_set(batch.x).sum(1).double().mean()))
    assert figures["certified_low"] < figures["certified_coverage"] < figures["certified_high"]
    assert figures["broken"] == 0
    assert figures["certificate"] == 0.25
    few = evaluate(method, data, CertifiedCoverage(limit=7), folder=tmp_path)
    assert few["attacked_records"] == 7


def test_an_attack_stays_within_the_radius_and_the_range_of_pictures():
    method = HalfSpaces(DataSpec("s", "vector", (2,), target="class", classes=("a", "b"), bounds=(-1.0, 1.0)))
    x, y = torch.tensor([[0.9, 0.1], [0.2, -0.3]]), torch.tensor([0, 1])
    moved = CertifiedCoverage().attack(method, x, y)
    torch.testing.assert_close(moved, torch.tensor([[1.0, 0.1], [-0.3, -0.3]]))


@pytest.mark.parametrize("arguments", [{"limit": 0}, {"steps": 0}, {"draws": 0}])
def test_mistakes_are_named(arguments):
    with pytest.raises(UserError, match=next(iter(arguments))):
        CertifiedCoverage(**arguments)

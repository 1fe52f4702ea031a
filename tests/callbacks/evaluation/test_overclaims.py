"""Claims beside what comes true, by hand."""

from __future__ import annotations

import pytest
import torch

from callbacks.evaluation.overclaims import Overclaims
from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.source import Records, Source
from datamodules.spec import DataSpec
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Periods(Source):
    """x is the population and the claim; 70 of 100 pass in each of three."""

    def load(self):
        population = torch.arange(3.0).repeat_interleave(100)
        claim = torch.tensor([0.5, 0.75, 0.95]).repeat_interleave(100)
        y = (torch.arange(300) % 100 < 70).long()
        rows = {"train": torch.arange(1), "validation": torch.arange(0), "test": torch.arange(300)}
        spec = DataSpec("periods", "vector", (2,), target="class", classes=("fails", "passes"))
        return Records(spec, {"x": torch.stack([population, claim], 1), "y": y}, splits=rows)


class Obedient(Fake):
    """Claims what x says."""

    def predict_reliability(self, x):
        return x[:, 1].double()

    def population(self, x):
        return x[:, 0].long()


def test_by_hand(tmp_path):
    data = LabelledData(Periods(), scale="none", eval_batch_size=70)
    got = evaluate(Obedient(), data, Overclaims(), folder=tmp_path)
    assert got["passing"] == pytest.approx(0.7)
    assert got["claimed"] == pytest.approx((0.5 + 0.75 + 0.95) / 3)
    assert got["excess"] == pytest.approx(0.25)
    assert (got["overclaims"], got["populations"]) == (1, 3)  # P(70 or fewer of 100 at 0.75) is 0.15


def test_a_level_is_a_probability():
    with pytest.raises(UserError, match=r"overclaims\.level=1"):
        Overclaims(level=1)

"""Regret, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from callbacks.evaluation.regret import Regret
from datamodules.presentations.candidates import CandidateData
from datamodules.sources.black_boxes import BlackBox
from datamodules.sources.linear import LinearRegression
from tests.callbacks.evaluation.fakes import Fake, evaluate


class Told(Fake):
    """Has acquired what it is told."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.tensor(rows, dtype=torch.long)

    def acquired_rows(self):
        return self.rows


def data(noise=0.0):
    made = CandidateData(BlackBox("levi_13", noise=noise, train=30, validation=3, test=3))
    made.setup()
    return made


@pytest.mark.parametrize("noise", [0.0, 50.0])
def test_it_is_the_optimum_less_the_best_mean_so_far(noise, tmp_path):
    pool = data(noise)
    values = pool.columns["mean"][pool.rows["train"]].double()  # Levy's function has its largest value, 0, at (1, 1)
    rows = [3, 17, 4, 4, 29]
    best, curve = -math.inf, []
    for row in rows:
        best = max(best, float(values[row]))
        curve.append(0.0 - best)
    found = evaluate(Told(rows), pool, Regret(), folder=tmp_path)
    assert found["regret"] == pytest.approx(curve[-1], rel=1e-6)
    assert found["mean_regret"] == pytest.approx(sum(curve) / 5, rel=1e-6)
    assert found["acquisitions"] == 5
    assert not list(tmp_path.rglob("regret.png"))


def test_nothing_acquired_and_nothing_known(tmp_path):
    found = evaluate(Told([]), data(), Regret(), folder=tmp_path)
    assert found["acquisitions"] == 0
    assert math.isnan(found["regret"])
    assert math.isnan(found["mean_regret"])
    assert "not known" in Regret().why_not_on(Told([0]), CandidateData(LinearRegression()))


def test_the_picture(tmp_path):
    evaluate(Told([3, 17, 4]), data(), Regret(picture=True), folder=tmp_path)
    (picture,) = tmp_path.rglob("regret.png")
    assert picture.read_bytes()[:4] == b"\x89PNG"

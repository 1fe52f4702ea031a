"""Two responses against the law that they are drawn from."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.labelled import LabelledData
from datamodules.presentations.two_responses import TwoResponsesData
from datamodules.sources.digits import Digits
from datamodules.sources.responses import TwoResponses


def test_responses_follow_the_law_and_are_independent_given_it():
    columns = TwoResponses(turns=2, power=1, train=100_000, validation=1, test=1).load().columns
    p = columns["law"][:, 1].double()
    x = columns["x"][:, 0].double()
    torch.testing.assert_close(p, 0.5 + 0.45 * torch.sin(2 * math.pi * (x + 1)), atol=1e-6, rtol=0)
    y, other = columns["y"].double(), columns["other"].double()
    bound = 5 / math.sqrt(len(p))
    for waves in (torch.ones_like(p), torch.sin(2 * math.pi * (x + 1))):
        assert abs(float(((y - p) * waves).mean())) < bound
        assert abs(float(((y - p) * (other - p) * waves).mean())) < bound


def test_responses_change_places_in_training_alone():
    data = TwoResponsesData(TwoResponses(train=4000, validation=10, test=500), batch_size=4000)
    data.setup()
    batch = next(iter(data.train_dataloader()))
    rows = data.plan(0)[0]
    y, other = data.columns["y"][rows], data.columns["other"][rows]
    assert torch.equal(batch.y + batch.other, y + other)
    apart = y != other
    assert float((batch.y != y)[apart].double().mean()) == pytest.approx(0.5, abs=0.06)
    test = data.records("test")
    assert torch.equal(test.y, data.columns["y"][data.rows["test"]])
    plain = LabelledData(TwoResponses(train=10, validation=10, test=10))
    assert set(plain.records("test")._fields) == {"x", "y"}


def test_bad_values():
    with pytest.raises(UserError, match=r"data\.amplitude=2"):
        TwoResponses(amplitude=2.0)
    with pytest.raises(UserError, match=r"data\.test=0"):
        TwoResponses(test=0)
    with pytest.raises(UserError, match="second response"):
        TwoResponsesData(Digits()).setup()

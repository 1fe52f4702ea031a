"""A chirp against its mean and its noise."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from datamodules.presentations.with_mean import WithMean
from datamodules.sources.chirp import Chirp
from datamodules.sources.linear import LinearRegression


def test_the_response_lies_around_the_wave():
    columns = Chirp(turns=3, power=2, noise=0.5, train=50_000).load().columns
    u = (columns["x"][:, 0].double() + 1) / 2
    torch.testing.assert_close(columns["mean"].double(), torch.sin(6 * math.pi * u**2), atol=1e-5, rtol=0)
    rest = columns["y"] - columns["mean"]
    assert float(rest.mean()) == pytest.approx(0, abs=0.01)
    assert float(rest.std()) == pytest.approx(0.5, abs=0.01)


def test_a_source_without_a_mean_has_none():
    data = WithMean(Chirp())
    batch = data.records("test")
    assert torch.equal(batch.mean, data.columns["mean"][data.rows["test"]])
    assert bool(WithMean(LinearRegression()).records("test").mean.isnan().all())


def test_bad_values():
    with pytest.raises(UserError, match=r"data\.noise=-1"):
        Chirp(noise=-1.0)
    with pytest.raises(UserError, match=r"data\.train=0"):
        Chirp(train=0)

"""Forecasts against the law that they claim to follow."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.forecasts import Forecasts


@pytest.mark.parametrize("law", Forecasts.LAWS)
@pytest.mark.parametrize("bias", [-0.2, 0.0, 0.3])
def test_the_event_is_likelier_than_forecast_by_the_bias(law, bias):
    f, y = Forecasts(law=law, bias=bias).draw(200_000, generator(1))
    assert float((y - f).mean()) == pytest.approx(bias, abs=0.004)  # 3.5 standard errors of a coin's mean
    assert float(f.min() + min(bias, 0)) >= -1e-9
    assert float(f.max() + max(bias, 0)) <= 1 + 1e-9
    middle = (f > 0.45) & (f < 0.55)
    assert float((y - f)[middle].mean()) == pytest.approx(bias, abs=0.015)


def test_a_perturbation_moves_each_forecast_towards_its_outcome():
    f, y = Forecasts(law="tenths").draw(1000, generator(0))
    moved, same = Forecasts(law="tenths", perturbation=0.01).draw(1000, generator(0))
    assert torch.equal(y, same)
    torch.testing.assert_close(moved, (f + 0.01 * (2 * y - 1)).clamp(0, 1))
    assert set((10 * f).round().int().tolist()) == set(range(11))
    half, _ = Forecasts(law="half").draw(10, generator(0))
    assert torch.equal(half, torch.full((10,), 0.5).double())


def test_mistakes_are_named():
    for arguments in ({"law": "thirds"}, {"bias": 0.6}, {"perturbation": -1}, {"test": 0}):
        with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}="):
            Forecasts(**arguments)

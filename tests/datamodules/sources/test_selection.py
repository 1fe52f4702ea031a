"""Simulated regressions against the moments that they claim."""

from __future__ import annotations

import math

import pytest
import torch

from compendium.errors import UserError
from compendium.seeding import generator
from datamodules.sources.selection import MOST_BY_SETTING, SelectionRegression

N = 100_000


def drawn(setting, dimensions=45, **arguments):
    return SelectionRegression(setting=setting, dimensions=dimensions, **arguments).draw(N, generator(0))


@pytest.mark.parametrize("setting", MOST_BY_SETTING)
def test_half_of_the_records_lie_above_zero_or_as_the_mean_has_it(setting):
    x, y = drawn(setting)
    assert x.dtype == y.dtype == torch.float32
    assert x.shape == (N, 45)
    if not setting.startswith("curved"):  # mu and noise are symmetric
        assert float((y > 0).double().mean()) == pytest.approx(0.5, abs=0.006)


def test_linear_settings_weigh_every_twentieth_feature():
    x, y = drawn("linear")
    slopes = torch.linalg.lstsq(x.double(), y.double()[:, None]).solution[:, 0]
    want = torch.zeros(45).double()
    want[[0, 20, 40]] = 1
    torch.testing.assert_close(slopes, want, atol=0.05, rtol=0)
    assert float((y - x[:, ::20].sum(1)).std()) == pytest.approx(3, rel=0.01)
    x, y = drawn("dense")
    assert float((45 * y - x.sum(1)).std()) == pytest.approx(1, rel=0.01)


def test_heavy_tails_are_those_of_three_degrees_of_freedom():
    x, y = drawn("heavy_noise", noise=1.0)
    quartile = 0.7648923  # of t_3: its third quartile, from tables
    assert float((y - x[:, ::20].sum(1)).quantile(0.75)) == pytest.approx(quartile, abs=0.02)
    x, _ = drawn("heavy_features")
    assert float(x[:, 7].quantile(0.75)) == pytest.approx(quartile, abs=0.02)
    # The components of a multivariate t share their denominator: uncorrelated, but large together.
    large = x.abs() > 3
    assert float(large[:, 1][large[:, 0]].double().mean()) > 3 * float(large[:, 1].double().mean())


def test_the_other_means_by_hand():
    x = torch.tensor([[0.5, 0.5, 0.2, 0.6], [0.5, -0.5, 0.2, 0.6], [0.5, -0.5, 0.2, -0.6], [0.5, 0.5, 0.2, -0.6]])
    mean, spread = SelectionRegression(setting="signs", dimensions=4, noise=2.0).law(x)
    torch.testing.assert_close(mean, torch.tensor([0.85, 0.0, -0.85, 0.0]))
    assert spread == 2
    mean, spread = SelectionRegression(setting="curved_uneven", dimensions=4, noise=2.0).law(x[:1])
    b = 2 * (0.25 + 0.04 + math.exp(-0.4) - 1)
    torch.testing.assert_close(mean, torch.tensor([b]))
    torch.testing.assert_close(spread, torch.tensor([5.5 - abs(b)]))
    assert SelectionRegression(setting="curved", dimensions=4, noise=2.0).law(x)[1] == 3


def test_mistakes_are_named():
    for arguments in ({"setting": "flat"}, {"setting": "signs", "dimensions": 3}, {"noise": -1}, {"train": 0}):
        with pytest.raises(UserError, match=rf"data\.{list(arguments)[-1]}="):
            SelectionRegression(**arguments)

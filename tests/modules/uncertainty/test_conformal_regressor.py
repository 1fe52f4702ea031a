"""Intervals on top of a regressor, by hand."""

from __future__ import annotations

import pytest
import torch
from scipy.stats import norm

from compendium.errors import UserError
from datamodules.batches import Labelled
from datamodules.spec import DataSpec
from modules.uncertainty.conformal_regressor import ConformalRegressor

SPEC = DataSpec("s", "vector", (2,), target="real", sizes={"train": 9})
LINEAR = {"_target_": "modules.networks.mlp.MLP", "width": 4, "depth": 1}


class Known(torch.nn.Module):
    """N(x_1, x_2^2)."""

    def predict_distribution(self, x):
        return torch.distributions.Normal(x[:, 0], x[:, 1])


def method(**arguments):
    made = ConformalRegressor(SPEC, alpha=0.25, net=LINEAR, **arguments)
    made.predictor = Known()
    return made


def fitted(score):
    draw = torch.Generator().manual_seed(0)
    x = torch.stack([torch.randn(9, generator=draw), 0.5 + torch.rand(9, generator=draw)], 1)
    y = 2 * torch.randn(9, generator=draw)
    made = method(score=score)
    made.accumulate(Labelled(x, y))
    made.solve()
    return made, x.double(), y.double()


@pytest.mark.parametrize("score", ["absolute", "normalised"])
def test_residuals_by_hand(score):
    made, x, y = fitted(score)
    scale = x[:, 1] if score == "normalised" else torch.ones(9).double()
    q = ((y - x[:, 0]).abs() / scale).sort().values[7]  # the 8th of 9: ceil(10 * 0.75)
    want = torch.stack([x[:, 0] - q * scale, x[:, 0] + q * scale], 1)
    torch.testing.assert_close(made.predict_interval(x.float()), want, rtol=1e-5, atol=1e-5)
    assert int(((want[:, 0] <= y + 1e-9) & (y <= want[:, 1] + 1e-9)).sum()) == 8


def test_quantiles_by_hand():
    made, x, y = fitted("quantile")
    low, high = (x[:, 0] + x[:, 1] * norm.ppf(p) for p in (0.125, 0.875))
    q = torch.maximum(low - y, y - high).sort().values[7]
    want = torch.stack([low - q, high + q], 1)
    torch.testing.assert_close(made.predict_interval(x.float()), want, rtol=1e-5, atol=1e-5)


def test_crossing_ends_meet_in_the_middle():
    made = method(score="quantile")
    made.quantile.fill_(-5.0)
    got = made.predict_interval(torch.tensor([[1.0, 0.5]]))
    torch.testing.assert_close(got, torch.tensor([[1.0, 1.0]]).double())


def test_too_few_records_exclude_nothing():
    made = method()
    assert made.predict_interval(torch.ones(1, 2)).isinf().all()


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.score=x"):
        method(score="x")
    with pytest.raises(UserError, match=r"model\.alpha=0"):
        ConformalRegressor(SPEC, alpha=0, net=LINEAR)

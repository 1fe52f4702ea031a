"""Multicalibration on the training records, and what boosting by level sets becomes in limits."""

from __future__ import annotations

import torch
from sklearn.linear_model import LinearRegression

from modules.uncertainty.level_sets import LevelSetBoosting


def records(n=1500, seed=0):
    draw = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 3, generator=draw, dtype=torch.float64)
    return x, x[:, 0] * (x[:, 0] > 0) * 2 + x[:, 1] + 0.1 * torch.randn(n, generator=draw, dtype=torch.float64)


def boosted(rounds, gain=0.0, levels=5, **arguments):
    x, y = records(**arguments)
    made = LevelSetBoosting(3, levels, rounds, gain, 1e-6)
    made.fit(x, y)
    return made, x, y


def test_one_round_is_linear_regression():
    made, x, y = boosted(1)
    want = LinearRegression().fit(x.numpy(), y.numpy()).predict(x.numpy())
    torch.testing.assert_close(made(x)[0], torch.from_numpy(want), rtol=1e-5, atol=1e-5)
    assert torch.bincount(made(x)[1]).tolist() == [300] * 5


def test_each_round_lowers_the_error_and_features_say_nothing_more_within_its_level_sets():
    errors = []
    for rounds in (1, 2, 6):
        made, x, y = boosted(rounds)
        errors.append(float((y - made(x)[0]).square().mean()))
    assert errors[0] > 1.5 * errors[1] >= errors[2]
    made, x, y = boosted(40, gain=0.002)
    prediction, level = made(x)
    for one in range(5):
        mine = level == one
        residual = y[mine] - prediction[mine]
        fit = LinearRegression().fit(x[mine].numpy(), residual.numpy())
        assert fit.score(x[mine].numpy(), residual.numpy()) < 0.02


def test_nothing_is_taken_where_nothing_is_gained():
    made, x, y = boosted(3, gain=0.999)
    torch.testing.assert_close(made(x)[0], y.mean().expand(len(y)))

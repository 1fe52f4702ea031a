"""Distances of weights that move as they are told."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from callbacks.evaluation.weight_distance import WeightDistance, explained
from compendium.errors import UserError


def walked(evaluation, distance, steps, method=None, first=1):
    """The evaluation after weights that lie at distance(t) after step t."""
    method = method or nn.Linear(3, 2)
    method.device = torch.device("cpu")
    evaluation.active = True
    evaluation.on_train_start(None, method)
    flat = evaluation.start_weights
    away = torch.zeros_like(flat)
    away[0] = 1
    for step in range(first, steps + 1):
        nn.utils.vector_to_parameters(flat + distance(step) * away, method.parameters())
        evaluation.on_train_batch_end(SimpleNamespace(global_step=step), method, None, None, step)
    return evaluation


def test_a_logarithm_is_a_line_in_the_logarithm_of_the_steps():
    found = walked(WeightDistance(last=500), lambda t: 1 + 2 * math.log(t), 700).compute(None, None)
    assert found["distance_r2_log"] == pytest.approx(1, abs=1e-5)
    assert found["distance_slope"] == pytest.approx(2, rel=1e-3)
    assert found["distance_r2_root"] < 0.95
    assert found["distance"] == pytest.approx(1 + 2 * math.log(500), rel=0.06)
    found = walked(WeightDistance(last=500), lambda t: 3 * math.sqrt(t), 500).compute(None, None)
    assert found["distance_r2_root"] == pytest.approx(1, abs=1e-5)
    assert found["distance_r2_log"] < 0.95


def test_steps_are_spaced_by_the_ratio():
    assert walked(WeightDistance(last=40, ratio=2.0), float, 100).steps == [1, 2, 4, 8, 16, 32]
    assert walked(WeightDistance(last=10, ratio=1.2), float, 100).steps == [1, 2, 3, 4, 5, 6, 8, 10]


def test_a_continued_run_has_the_distances_of_a_whole_one():
    whole = walked(WeightDistance(last=90), math.sqrt, 90)
    method = nn.Linear(3, 2)
    half = walked(WeightDistance(last=90), math.sqrt, 33, method)
    again = WeightDistance(last=90)
    again.load_state_dict(half.state_dict())
    walked(again, math.sqrt, 90, method, first=34)
    assert again.steps == whole.steps
    assert [float(d) for d in again.distances] == pytest.approx([float(d) for d in whole.distances], rel=1e-5)


def test_lines_are_those_of_numpy():
    draw = np.random.default_rng(0)
    x, y = draw.normal(size=(2, 30))
    assert explained(x, y) == pytest.approx((np.corrcoef(x, y)[0, 1] ** 2, np.polyfit(x, y, 1)[0]))
    assert math.isnan(explained(np.ones(3), np.arange(3.0))[0])


def test_it_is_off_until_asked_for_and_undefined_without_steps():
    assert "last=null" in WeightDistance().misfit(nn.Linear(1, 1), None)
    assert WeightDistance(last=5).misfit(nn.Linear(1, 1), None) is None
    assert WeightDistance().state_dict() == {}
    assert all(math.isnan(value) for value in WeightDistance(last=5).compute(None, None).values())
    for arguments, message in (({"last": 0}, "last=0"), ({"ratio": 1.0}, "ratio=1")):
        with pytest.raises(UserError, match=message):
            WeightDistance(**arguments)

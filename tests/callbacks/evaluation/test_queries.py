"""Counts that an optimizer kept, or none."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from callbacks.evaluation.queries import Queries
from datamodules.presentations.unlabelled import UnlabelledData
from tests.callbacks.evaluation.fakes import Fake, GaussianVectors, evaluate


def counted(tmp_path, *counts):
    weights = [{"params": [torch.nn.Parameter(torch.ones(2))]} for _ in counts or (1,)]
    optimizer = torch.optim.SGD(weights, lr=0.1)
    for group, (queries, passes) in zip(optimizer.param_groups, counts, strict=False):
        group["queries"], group["passes"] = queries, passes
    trainer = SimpleNamespace(optimizers=[optimizer], default_root_dir=tmp_path)
    return Queries(measure=True).compute(None, SimpleNamespace(trainer=trainer))


def test_the_sum_over_groups(tmp_path):
    assert counted(tmp_path, (5, 20), (0, 0)) == {"queries": 5, "layer_passes": 20}


def test_an_optimizer_that_does_not_count_has_no_figure(tmp_path):
    assert all(math.isnan(value) for value in counted(tmp_path).values())


@pytest.mark.parametrize("measure", [True, False])
def test_only_where_it_is_asked_for(tmp_path, measure):
    figures = evaluate(Fake(), UnlabelledData(GaussianVectors()), Queries(measure=measure), folder=tmp_path)
    assert set(figures) == ({"queries", "layer_passes"} if measure else set())

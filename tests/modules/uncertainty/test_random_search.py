"""Random search is uniform."""

from __future__ import annotations

import torch
from scipy import stats

from modules.uncertainty.random_search import RandomSearch
from tests.modules.uncertainty.test_sequential import SPEC, pool, steps


def test_every_point_is_as_likely_at_every_acquisition():
    batch = pool(10)
    rows = torch.tensor(
        [steps(RandomSearch(SPEC, acquisitions=4, initial=2), batch, 0, 3, seed) for seed in range(600)]
    )
    assert all(len(set(one)) == 4 for one in rows.tolist())
    for place in range(4):
        assert stats.chisquare(torch.bincount(rows[:, place], minlength=10).numpy()).pvalue > 1e-3

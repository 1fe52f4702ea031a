"""A choice on records of its own."""

from __future__ import annotations

import pytest
import torch

from compendium.errors import UserError
from modules.uncertainty.conformal_selection import at_most, benjamini_hochberg
from modules.uncertainty.split_conformal_selection import SplitConformalSelection
from tests.modules.uncertainty.test_conformal_selection import SPEC, at_or_below, false_discoveries, fitted, problems


def test_calibrates_on_the_records_that_did_not_choose(monkeypatch):
    path = "modules.uncertainty.split_conformal_selection.conformal_p_values"
    monkeypatch.setattr(path, lambda v, w: (1 + at_most(v, w)).double() / (v.shape[-1] + 1))
    method, task = fitted(SplitConformalSelection, candidates=1, share=1.0, choosing=0.4, level=0.2), problems(40)
    calibration, pool = (scores[:, 0] for scores in method.scores(task))
    p = (1 + at_most(calibration[:, 20:], pool)).double() / 31  # 0.4 of 50 choose, in halves of 10
    assert torch.equal(method.select(task), benjamini_hochberg(p, 0.2))


def test_finds_the_candidate_that_knows():
    method, task = fitted(SplitConformalSelection, candidates=3, share=0.5, level=0.2), problems(400, 400, 50)
    method.weight[:, 1:] = torch.randn(20, 2, dtype=torch.float64)  # noise; the first one knows half of the features
    known = method.select(task)
    interesting = task.pool_y > 0
    method.weight[:, 0] = method.weight[:, 1]
    blind = method.select(task)
    assert (known & interesting).sum() > 3 * (blind & interesting).sum()


@pytest.mark.parametrize("slope", [0.0, 0.2])
def test_the_false_discovery_rate_is_controlled(slope):
    method = fitted(SplitConformalSelection, candidates=20, share=0.05, level=0.2)
    assert at_or_below(false_discoveries(method, problems(2000, slope=slope)), 0.2)


def test_mistakes_are_named():
    with pytest.raises(UserError, match=r"model\.choosing=1"):
        SplitConformalSelection(SPEC, choosing=1)
    with pytest.raises(UserError, match="of 3 labelled records, 0 choose and 3 calibrate"):
        fitted(SplitConformalSelection, choosing=0.1).select(problems(2, n=3))

"""The largest of the candidates' selections."""

from __future__ import annotations

import torch

from modules.uncertainty.conformal_selection import ConformalSelection, benjamini_hochberg, conformal_p_values
from modules.uncertainty.greedy_conformal_selection import GreedyConformalSelection
from tests.modules.uncertainty.test_conformal_selection import fitted, problems


def test_takes_the_largest_selection():
    method, task = fitted(GreedyConformalSelection, level=0.4), problems(50)
    torch.manual_seed(0)
    got = method.select(task)
    torch.manual_seed(0)
    each = benjamini_hochberg(conformal_p_values(*method.scores(task)), 0.4)
    assert torch.equal(got.sum(1), each.sum(2).amax(1))
    assert (each == got[:, None]).all(2).any(1).all()


def test_with_one_candidate_it_is_conformal_selection():
    task = problems(50)
    chosen = []
    for kind in (GreedyConformalSelection, ConformalSelection):
        method = fitted(kind, candidates=1, share=1.0)
        torch.manual_seed(0)
        chosen.append(method.select(task))
    assert torch.equal(*chosen)

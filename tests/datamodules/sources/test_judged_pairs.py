"""Logistic regressions against scikit-learn, and what larger judges see."""

from __future__ import annotations

import pytest
import torch
from sklearn.linear_model import LogisticRegression

from compendium.errors import UserError
from datamodules.sources.judged_pairs import JudgedPairs, logistic_regressions


def test_regressions_are_scikit_learns():
    draw = torch.Generator().manual_seed(0)
    x = torch.randn(2, 50, 4, generator=draw, dtype=torch.float64)
    y = (torch.rand(2, 50, generator=draw) < x[..., 0].mul(2).sigmoid()).double()
    for one, target, got in zip(x, y, logistic_regressions(x, y, ridge=2.0), strict=True):
        want = LogisticRegression(C=0.5, fit_intercept=False, tol=1e-10).fit(one.numpy(), target.numpy()).coef_[0]
        torch.testing.assert_close(got, torch.from_numpy(want), rtol=1e-4, atol=1e-5)


def test_larger_judges_and_more_annotators_agree_more():
    records = JudgedPairs(test=4000).load()
    x, y = records.columns["x"].view(-1, 3, 5), records.columns["y"][:, None]
    judged = ((x.mean(2) > 0.5).long() == y).double().mean(0)
    assert judged[0] < judged[1] < judged[2]
    assert ((x[:, 2] > 0.5).long() == y).double().mean() < judged[2]
    assert y.double().mean() == pytest.approx(0.5, abs=0.05)


def test_mistakes_are_named():
    for arguments in ({"people": 4}, {"shots": 0}, {"sizes": (8, 4)}, {"sizes": (8, 64)}):
        with pytest.raises(UserError, match=rf"data\.{next(iter(arguments))}"):
            JudgedPairs(**arguments)
